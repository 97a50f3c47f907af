"""The command line of `scripts/generate.py`: its flags, and what they ask."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from blocklm.assistant.file_region import region_of
from blocklm.assistant.prompts import UNNAMED, PromptBuilder, Request
from blocklm.errors import UserError


def add_flags(parser: ArgumentParser) -> None:
    """The flags that say what is asked, of whom and how, and where things are."""
    parser.add_argument("--prompt", help="a text to go on from, as it is")
    parser.add_argument("--prefix", help="what stands before a gap")
    parser.add_argument("--suffix", help="what stands after it")
    parser.add_argument(
        "--file", type=Path, help="of --line or --lines; with --prefix or --suffix the path that they are from"
    )
    parser.add_argument("--line", type=int, help="fill the gap before this line")
    parser.add_argument("--lines", metavar="FROM-TO", help="write these lines anew: the answer stands in their place")
    parser.add_argument("--instruction", help="to what end, as a commit's subject says it")
    parser.add_argument("--view", choices=("message",), help="say what the diff on stdin does")
    parser.add_argument("--max_new_tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) takes the likeliest tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", action="store_true", help="JSON lines from stdin")
    parser.add_argument(
        "--base", nargs="?", const="only", choices=("only", "too"), help="let the base model answer instead, or too"
    )
    parser.add_argument(
        "--why", action="store_true", help="the training commits nearest to the answer, and what it repeats"
    )
    parser.add_argument(
        "--retrieve",
        type=int,
        default=0,
        metavar="K",
        help="show the model the K nearest pieces of files at HEAD first",
    )
    parser.add_argument("--repo", nargs="+", help="where the repositories are now, for --why and --retrieve")
    parser.add_argument("--corpus_dir", help="where the corpus is now, for --why and --retrieve")


def location_keys(args: Namespace) -> list[str]:
    """What the command line says of where things are, as keys of a recipe."""
    repo = ["--repo", *args.repo] if args.repo else []
    return repo + (["--corpus_dir", args.corpus_dir] if args.corpus_dir else [])


def check_request(args: Namespace) -> None:
    """Raise `UserError` if a command line asks two things, of which one would not be answered."""
    gap = args.prefix is not None or args.suffix is not None
    without_file = (args.prompt is not None, bool(args.view), args.batch)
    if sum((*without_file, gap, args.line is not None, bool(args.lines))) > 1 or (args.file and any(without_file)):
        raise UserError(
            "two things are asked at once",
            "one of --prompt, --prefix and --suffix, --file with --line or --lines, --view, --batch",
        )
    if args.retrieve < 0 or (args.retrieve and args.view):
        raise UserError(
            f"`--retrieve {args.retrieve}` gives nothing here", "a number from 1, for anything but --view message"
        )


def read_request(args: Namespace, builder: PromptBuilder) -> Request:
    """What the command line, or stdin, asks.

    Raises:
        UserError: nothing, or only half of something.
    """
    if args.view == "message":
        return builder.subject(_stdin())
    if (args.line is not None or args.lines) and not args.file:
        raise UserError("lines without a file", "`--line` and `--lines` need `--file`")
    if bool(args.lines) != bool(args.instruction):
        raise UserError(
            "an edit needs lines and what is to become of them", "`--file PATH --lines 10-20 --instruction TEXT`"
        )
    if args.lines:
        region = region_of(args.file, *_span(args.lines))
        return builder.change(region.text, args.instruction, region.path, region.root)
    if args.line is not None:
        region = region_of(args.file, args.line)
        return builder.gap(region.before, region.after, region.path, region.root)
    if args.prefix is not None or args.suffix is not None:
        path = args.file.as_posix() if args.file else UNNAMED
        return builder.gap(args.prefix or "", args.suffix or "", path)
    if args.file:
        raise UserError("`--file` does not say which lines", "`--line 40`, or `--lines 10-20 --instruction TEXT`")
    return builder.text(_stdin() if args.prompt is None else args.prompt)


def _span(lines: str) -> tuple[int, int]:
    first, _, last = lines.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise UserError(f"`--lines {lines}` names no lines", "say them as 10-20")
    return int(first), int(last or first)


def _stdin() -> str:
    if sys.stdin.isatty():
        raise UserError("nothing is asked", "give `--prompt`, or a text on stdin; --help shows what else")
    return sys.stdin.buffer.read().decode(errors="replace")
