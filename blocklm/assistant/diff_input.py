"""A unified diff that somebody gives, as the hunks that a commit of it would teach: without secrets, generated files, moves.

Diffs come from git in all its settings (`a/`, `i/`, no prefix; names in quotes), from `diff -u` and from mails: a hunk is
read by the counts in its header, so that text which looks like a header is none.
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
UNSAID = "?"  # the subject that is asked for: a message's prompt does not show it

logger = logging.getLogger(__name__)


def pasted_hunks(diff: str, repo: str, limits: FilterLimits) -> list[HunkText]:
    """The hunks of a diff that a commit would teach; all of them if it would teach none.

    Args:
        diff: the text.
        repo: the repository's name, as prompts say it.
        limits: what the run did not learn from.

    Raises:
        UserError: no hunk is in it.
    """
    files = list(_files(redact([diff])[0].text)) if diff.strip() else []
    if not files:
        raise UserError(
            "there is no unified diff on stdin", "`git diff --staged | ...` shows what `git add` has taken"
        )
    removed = removed_lines([text for _, text in files])
    found, left_out = list[HunkText](), list[HunkText]()
    for path, text in files:
        change = FileChange(path, path, "modify", 0, None, None, text, text.count("\n+"), text.count("\n-"))
        reason = screen(change, kind_of(path), limits)
        hunks = hunks_of(text)
        for at, (hunk, why) in enumerate(zip(hunks, screen_hunks(hunks, removed, limits), strict=True)):
            (left_out if reason or why else found).append(HunkText(repo, "", path, UNSAID, at, hunk.lines))
    if found and left_out:
        logger.info("not shown, because such changes were not learned from: %s", _named(left_out))
    return found or left_out


def _named(hunks: list[HunkText]) -> str:
    return ", ".join(dict.fromkeys(ascii(hunk.path)[1:-1] for hunk in hunks))


def _files(diff: str) -> Iterator[tuple[str, str]]:
    """The path and the hunks of each file that has some."""
    lines = diff.split("\n")
    at, path, hunks = 0, "", list[str]()
    while at < len(lines):
        header = HUNK.match(lines[at])
        if header and path:
            end = _end(lines, at + 1, *(int(count or 1) for count in header.groups()))
            hunks += lines[at:end]
            at = end
        elif lines[at].startswith("--- ") and "".join(lines[at + 1 : at + 2]).startswith("+++ "):
            if hunks:
                yield path, "\n".join([*hunks, ""])
            path, hunks = _path(lines[at][4:], lines[at + 1][4:]), []
            at += 2
        else:
            at += 1
    if hunks:
        yield path, "\n".join([*hunks, ""])


def _end(lines: list[str], at: int, before: int, after: int) -> int:
    """Where a hunk ends that has so many lines of the file before and after, or that was cut off."""
    while at < len(lines) and (before > 0 or after > 0 or lines[at].startswith("\\")):
        mark = lines[at][:1]
        if mark not in " +-\\" or (not mark and at == len(lines) - 1):
            break
        before -= mark in ("", " ", "-")
        after -= mark in ("", " ", "+")
        at += 1
    return at


def _path(before: str, after: str) -> str:
    """The path after a change, or before a deletion, without the letters that git puts before both."""
    old, new = (_plain(name) for name in (before, after))
    path, other = (old, new) if new == "/dev/null" else (new, old)
    same = other == "/dev/null" or (path[0:2] != other[0:2] and PREFIX.match(other))
    return path[2:] if same and PREFIX.match(path) else path


def _plain(name: str) -> str:
    return unquote_path(name.rstrip("\r").partition("\t")[0])
