"""Discuss a change with a complete run's model, which sees the diff, similar past changes and what followed them.

python scripts/review.py runs/project                                    # the newest commit
python scripts/review.py runs/project 1a2b3c4d                           # another, or a range: main..topic
python scripts/review.py runs/project --staged                           # the staged changes
python scripts/review.py runs/project --staged --ask "What is not tested?"     # one question, no first comment
python scripts/review.py runs/project HEAD --base < questions.txt        # the base answers; a question a line

After the model's first comment, each line that you type is a question; an empty line or Ctrl-D ends. Answers are
streamed to stdout; all other text goes to stderr. The conversation is stored under RUN_DIR/reviews, without secrets,
and the same command continues it.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from blocklm.assistant.arguments import location_keys
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.formatting import printable
from blocklm.runs.completed import open_run


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("rev", nargs="?", help="a commit or a range; HEAD (the default) is the newest commit")
    parser.add_argument("--staged", action="store_true", help="review the staged changes instead of a commit")
    parser.add_argument("--ask", metavar="TEXT", help="ask one question, print its answer and end")
    parser.add_argument("--new", action="store_true", help="start a new conversation, replacing an earlier one")
    parser.add_argument("--base", action="store_true", help="let the base model answer, in a conversation of its own")
    parser.add_argument(
        "--plain", action="store_true", help="format turns as headings, even if the model has a chat template"
    )
    parser.add_argument("--retrieve", type=int, default=3, help="number of similar past changes to show (default: 3)")
    parser.add_argument(
        "--max_prompt_tokens",
        type=int,
        default=3072,
        help="maximum tokens of change, past changes and turns together (default: 3072)",
    )
    parser.add_argument("--max_new_tokens", type=int, default=200, help="maximum tokens of an answer (default: 200)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) takes the likeliest tokens")
    parser.add_argument("--seed", type=int, default=0, help="seed for a temperature above 0 (default: 0)")
    parser.add_argument("--repo", nargs="+", help="new locations of the repositories, if they were moved")
    parser.add_argument("--corpus_dir", help="new location of the corpus, if it was moved")
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
    """Parse the command line, show the change, answer questions."""
    args = command_line().parse_args()
    check_arguments(args)

    run = open_run(args.run_dir, location_keys(args))

    from blocklm.assistant.assistant import Assistant  # heavy
    from blocklm.assistant.review.reviewer import Reviewer, find_transcript, opening_lines, read_change
    from blocklm.models.generation.decoding import Decoding

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
    """Yield the lines of stdin; on a terminal, up to an empty line."""
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline().decode(errors="replace")
        if line.strip():
            yield line.strip()
        elif interactive or not line:
            return


if __name__ == "__main__":
    with console():
        main()
