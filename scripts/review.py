"""Talk with a complete run's model about a change: the diff, the nearest past changes and what followed them, questions.

python scripts/review.py runs/two                                    # the newest commit
python scripts/review.py runs/two 1a2b3c4d                           # another, or a range: main..topic
python scripts/review.py runs/two --staged                           # what `git add` has taken
python scripts/review.py runs/two --staged --ask "What is not tested?"     # one question, no first comment
python scripts/review.py runs/two HEAD --base < questions.txt        # the base answers; a question a line

After the model's first comment each line that you type is a question; an empty line or Ctrl-D ends. Answers go to stdout as they
grow, all else to stderr. The conversation is kept under RUN_DIR/reviews, without secrets, and the same command goes on with it.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from blocklm.assistant.arguments import location_keys
from blocklm.console import CommandLine, console
from blocklm.errors import UserError


def command_line() -> CommandLine:
    """What may be given."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("rev", nargs="?", help="a commit or a range; HEAD (the default) is the newest commit")
    parser.add_argument("--staged", action="store_true", help="what is staged, instead of a commit")
    parser.add_argument("--ask", metavar="TEXT", help="ask this and end")
    parser.add_argument("--new", action="store_true", help="begin anew, and let an earlier conversation about it go")
    parser.add_argument("--base", action="store_true", help="let the base model answer, in a conversation of its own")
    parser.add_argument("--plain", action="store_true", help="headings, even if the model has a chat template")
    parser.add_argument("--retrieve", type=int, default=3, help="past changes that are looked for when it begins")
    parser.add_argument("--max_prompt_tokens", type=int, default=3072, help="of change, past and turns together")
    parser.add_argument("--max_new_tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) takes the likeliest tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repo", nargs="+", help="where the repositories are now")
    parser.add_argument("--corpus_dir", help="where the corpus is now")
    return parser


def check_arguments(args: Namespace) -> None:
    """Raise `UserError` if the flags name two changes, or a number is out of range."""
    if args.staged and args.rev is not None:
        raise UserError(f"`{args.rev}` and `--staged` are two changes", "give one of them")
    if args.max_prompt_tokens < 1:
        raise UserError("`--max_prompt_tokens` must be at least 1", "set `--max_prompt_tokens` to 1 or more")
    if args.retrieve < 0:
        raise UserError("`--retrieve` must be at least 0", "set `--retrieve` to 0 or more")


def main() -> None:
    """Parse, show the change, talk."""
    args = command_line().parse_args()
    check_arguments(args)

    from blocklm.assistant.assistant import Assistant  # heavy
    from blocklm.assistant.review.reviewer import Reviewer, find_transcript, opening_lines, read_change
    from blocklm.assistant.streaming import printable
    from blocklm.models.generation import Decoding
    from blocklm.runs.completed import open_run

    run = open_run(args.run_dir, location_keys(args))
    assistant = Assistant(run, Decoding(args.max_new_tokens, args.temperature, args.seed))
    change = read_change(assistant, None if args.staged else args.rev or "HEAD")
    transcript = find_transcript(assistant, change, base=args.base, retrieve=args.retrieve, restart=args.new)
    reviewer = Reviewer(assistant, change, transcript, args.max_prompt_tokens, args.base, args.plain)
    for line in opening_lines(reviewer):
        print(printable(line), file=sys.stderr)
    if args.ask is not None:
        reviewer.ask(args.ask)
        return
    if not transcript.turns:
        reviewer.comment()
    for question in questions():
        try:
            reviewer.ask(question)
        except UserError as error:
            if not sys.stdin.isatty():
                raise
            print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)


def questions() -> Iterator[str]:
    """Lines of stdin; of a terminal until an empty one."""
    typed = sys.stdin.isatty()
    while True:
        if typed:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline().decode(errors="replace")
        if line.strip():
            yield line.strip()
        elif typed or not line:
            return


if __name__ == "__main__":
    with console():
        main()
