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


def main() -> None:
    """Parse, show the change, talk."""
    args = command_line().parse_args()

    from blocklm.assistant.assistant import Assistant  # heavy
    from blocklm.assistant.review.reviewer import open_review, opening_lines
    from blocklm.assistant.streaming import printable
    from blocklm.models.generation import Decoding
    from blocklm.runs.completed import open_run

    run = open_run(args.run_dir, location_keys(args))
    assistant = Assistant(run, Decoding(args.max_new_tokens, args.temperature, args.seed))
    reviewer = open_review(
        assistant,
        args.rev,
        of_index=args.staged,
        retrieve=args.retrieve,
        most=args.max_prompt_tokens,
        base=args.base,
        plain=args.plain,
        anew=args.new,
    )
    for line in opening_lines(reviewer):
        print(printable(line), file=sys.stderr)
    if args.ask is not None:
        reviewer.ask(args.ask)
        return
    if not reviewer.session.turns:
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
