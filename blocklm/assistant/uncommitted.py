"""Reads what was edited in a file since the last commit, as the recent edits of an editor."""

from difflib import SequenceMatcher
from pathlib import Path

from blocklm.corpus.places.place import RecentEdit
from blocklm.git.isolation import git_output

MAX_EDITS = 4
CONTEXT_LINES = 3
MAX_LINES = 40  # of an edit that is shown, before or after


def uncommitted_edits(root: Path, path: str) -> list[RecentEdit]:
    """Compare a file of the work tree with the last commit's; return at most four edits, the last in the file last.

    Args:
        root: top folder of the repository.
        path: path of the file from there.
    """
    committed = git_output(root, "cat-file", "blob", f"HEAD:{path}")
    if committed is None:  # no repository, no commit, or a new file
        return []
    text = committed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    old, new = text.split("\n"), (root / path).read_text(encoding="utf-8", errors="replace").split("\n")
    edits = []
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT_LINES):
        original, updated = old[group[0][1] : group[-1][2]], new[group[0][3] : group[-1][4]]
        if max(len(original), len(updated)) <= MAX_LINES:
            edits.append(RecentEdit(path, _join(original), _join(updated)))
    return edits[-MAX_EDITS:]


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
