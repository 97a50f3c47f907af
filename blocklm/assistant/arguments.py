"""The command line of `scripts/generate.py`: its flags, their checks, and the request that they describe."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from blocklm.assistant.file_region import region_of
from blocklm.assistant.prompts import UNNAMED, PromptBuilder, Request
from blocklm.assistant.uncommitted import uncommitted_edits
from blocklm.errors import UserError


def add_flags(parser: ArgumentParser) -> None:
    """Add the flags for the request, the model, the decoding, and the places of repositories and corpus."""
    parser.add_argument("--prompt", help="a text to continue, given to the model unchanged")
    parser.add_argument("--prefix", help="the text before a gap")
    parser.add_argument("--suffix", help="the text after the gap")
    parser.add_argument(
        "--file", type=Path, help="the file of --line or --lines; with --prefix or --suffix the path to show the model"
    )
    parser.add_argument("--line", type=int, help="fill the gap before this line")
    parser.add_argument("--lines", metavar="FROM-TO", help="edit these lines: the answer replaces them")
    parser.add_argument(
        "--instruction",
        help="the purpose of the edit, worded like a commit's subject; without it, the next edit after the uncommitted ones",
    )
    parser.add_argument("--view", choices=("message",), help="write a commit subject for the diff on stdin")
    parser.add_argument("--max_new_tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) takes the likeliest tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", action="store_true", help="answer JSON lines from stdin")
    parser.add_argument(
        "--base",
        nargs="?",
        const="only",
        choices=("only", "too"),
        help="let the base model answer instead, or as well",
    )
    parser.add_argument(
        "--why", action="store_true", help="show the training commits nearest to the answer, and verbatim repetition"
    )
    parser.add_argument(
        "--retrieve",
        type=int,
        default=0,
        metavar="K",
        help="show the model the K nearest pieces of files at HEAD first",
    )
    parser.add_argument("--repo", nargs="+", help="present paths of the repositories, for --why and --retrieve")
    parser.add_argument("--corpus_dir", help="present folder of the corpus, for --why and --retrieve")


def location_keys(args: Namespace) -> list[str]:
    """Turn `--repo` and `--corpus_dir` into recipe keys, as a recipe's command line takes them."""
    repo = ["--repo", *args.repo] if args.repo else []
    return repo + (["--corpus_dir", args.corpus_dir] if args.corpus_dir else [])


def check_request(args: Namespace) -> None:
    """Raise `UserError` if the flags describe two requests, or `--retrieve` cannot apply."""
    gap = args.prefix is not None or args.suffix is not None
    needs_no_file = (args.prompt is not None, bool(args.view), args.batch)
    if sum((*needs_no_file, gap, args.line is not None, bool(args.lines))) > 1 or (args.file and any(needs_no_file)):
        raise UserError(
            "two things are asked at once",
            "give one of --prompt, --prefix and --suffix, --file with --line or --lines, --view, --batch",
        )
    if args.retrieve < 0 or (args.retrieve and args.view):
        raise UserError(
            f"`--retrieve {args.retrieve}` has no effect here", "set it to 1 or more, and leave out `--view message`"
        )


def read_request(args: Namespace, builder: PromptBuilder) -> Request:
    """Build the request that the command line, or stdin, describes.

    Raises:
        UserError: there is no request, or a part of it is missing.
    """
    if args.view == "message":
        return builder.subject(_read_stdin())
    if (args.line is not None or args.lines) and not args.file:
        raise UserError("lines without a file", "name the file of `--line` or `--lines` with `--file`")
    if args.instruction and not args.lines:
        raise UserError("an instruction needs lines", "give `--file PATH --lines 10-20 --instruction TEXT`")
    if args.lines:
        region = region_of(args.file, *_parse_lines(args.lines))
        if not args.instruction:
            edits = uncommitted_edits(region.root, region.path)
            return builder.next_edit(region.text, region.path, region.root, edits)
        return builder.change(region.text, args.instruction, region.path, region.root)
    if args.line is not None:
        region = region_of(args.file, args.line)
        return builder.gap(region.before, f"\n{region.after}", region.path, region.root)
    if args.prefix is not None or args.suffix is not None:
        path = args.file.as_posix() if args.file else UNNAMED
        return builder.gap(args.prefix or "", args.suffix or "", path)
    if args.file:
        raise UserError("`--file` does not say which lines", "add `--line 40`, or `--lines 10-20`")
    return builder.text(_read_stdin() if args.prompt is None else args.prompt)


def _parse_lines(lines: str) -> tuple[int, int]:
    first, _, last = lines.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise UserError(f"`--lines {lines}` names no lines", "give first and last line, as in `--lines 10-20`")
    return int(first), int(last or first)


def _read_stdin() -> str:
    if sys.stdin.isatty():
        raise UserError("there is no prompt", "give `--prompt`, or a text on stdin; `--help` lists the other requests")
    return sys.stdin.buffer.read().decode(errors="replace")
