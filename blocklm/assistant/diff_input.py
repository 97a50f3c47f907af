"""Reads a unified diff from a user as hunks that could be trained on: without secrets, generated files and moves.

Diffs come from git in all its settings (`a/`, `i/`, no prefix; names in quotes), from `diff -u` and from mails. A hunk
is read by the line counts in its header, so text that looks like a header is not mistaken for one.
"""

import logging
import re
from collections.abc import Iterator

from blocklm.corpus.views import HunkText
from blocklm.errors import UserError
from blocklm.git.commits import FileChange
from blocklm.git.patch_parser import unquote_path
from blocklm.mining.file_types import kind_of
from blocklm.mining.filters import FilterLimits, screen, screen_hunks
from blocklm.mining.hunks import hunks_of, removed_lines
from blocklm.mining.redaction import redact

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
PREFIX = re.compile(r"[abciow]/")
UNKNOWN_SUBJECT = "?"  # stands for the subject to be written, which the prompt of the view `message` does not show

logger = logging.getLogger(__name__)


def pasted_hunks(diff: str, repo: str, limits: FilterLimits) -> list[HunkText]:
    """Read the hunks of a diff that the filters would keep; all of them if they would keep none.

    Args:
        diff: text of the diff.
        repo: name of the repository in prompts.
        limits: filter limits that the run was mined with.

    Raises:
        UserError: the text has no hunk.
    """
    files = list(_split_files(redact([diff])[0].text)) if diff.strip() else []
    if not files:
        raise UserError(
            "there is no unified diff on stdin",
            "pipe one in: `git diff --staged | ...` shows what `git add` has taken",
        )
    removed = removed_lines([text for _, text in files])
    kept, left_out = list[HunkText](), list[HunkText]()
    for path, text in files:
        change = FileChange(path, path, "modify", 0, None, None, text, text.count("\n+"), text.count("\n-"))
        reason = screen(change, kind_of(path), limits)
        hunks = hunks_of(text)
        for number, (hunk, why) in enumerate(zip(hunks, screen_hunks(hunks, removed, limits), strict=True)):
            (left_out if reason or why else kept).append(HunkText(repo, "", path, UNKNOWN_SUBJECT, number, hunk.lines))
    if kept and left_out:
        logger.info("not shown, because such changes were not learned from: %s", _list_paths(left_out))
    return kept or left_out


def _list_paths(hunks: list[HunkText]) -> str:
    return ", ".join(dict.fromkeys(ascii(hunk.path)[1:-1] for hunk in hunks))


def _split_files(diff: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of the hunks of each file that has any."""
    lines = diff.split("\n")
    index, path, hunks = 0, "", list[str]()
    while index < len(lines):
        header = HUNK.match(lines[index])
        if header and path:
            end = _find_hunk_end(lines, index + 1, *(int(count or 1) for count in header.groups()))
            hunks += lines[index:end]
            index = end
        elif lines[index].startswith("--- ") and "".join(lines[index + 1 : index + 2]).startswith("+++ "):
            if hunks:
                yield path, "\n".join([*hunks, ""])
            path, hunks = _choose_path(lines[index][4:], lines[index + 1][4:]), []
            index += 2
        else:
            index += 1
    if hunks:
        yield path, "\n".join([*hunks, ""])


def _find_hunk_end(lines: list[str], index: int, before: int, after: int) -> int:
    """Find the end of a hunk; it may be cut off before the lines that its header counts.

    Args:
        lines: lines of the diff.
        index: index of the hunk's first line after its header.
        before: lines of the old file that the header counts.
        after: lines of the new file that the header counts.
    """
    while index < len(lines) and (before > 0 or after > 0 or lines[index].startswith("\\")):
        mark = lines[index][:1]
        if mark not in " +-\\" or (not mark and index == len(lines) - 1):
            break
        before -= mark in ("", " ", "-")
        after -= mark in ("", " ", "+")
        index += 1
    return index


def _choose_path(before: str, after: str) -> str:
    """Choose the path after a change, or before a deletion, without the prefixes (`a/`, `b/`) that git adds."""
    old, new = (_unquote(name) for name in (before, after))
    path, other = (old, new) if new == "/dev/null" else (new, old)
    same = other == "/dev/null" or (path[0:2] != other[0:2] and PREFIX.match(other))
    return path[2:] if same and PREFIX.match(path) else path


def _unquote(name: str) -> str:
    return unquote_path(name.rstrip("\r").partition("\t")[0])
