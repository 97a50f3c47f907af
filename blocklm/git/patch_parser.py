"""Parses the text of a patch into PyDriller's objects, without a process or a thread per commit.

PyDriller reads a patch through GitPython, which walks the submodules of the repository for each file. The objects here
hold the same values (tests compare them on a repository with every oddity known to us), but for one case in which
PyDriller is wrong: a mode change of a path like `a b/a`, whose two names GitPython's expression cannot tell apart.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from git import Repo
from git.diff import Diff, decode_path
from git.objects.base import IndexObject
from git.objects.blob import Blob
from git.objects.util import mode_str_to_int
from pydriller.domain.commit import ModificationType, ModifiedFile

NULL_ID = b"0" * 40
SUBMODULE_MODE = 0o160000
FILE = b"diff --git "
# The lines between `diff --git` and the first hunk, in the order in which git writes them.
HEADER = re.compile(
    rb"""diff\ --git\ (?P<names>.*)\n
    (?:old\ mode\ (?P<old_mode>\d+)\nnew\ mode\ (?P<new_mode>\d+)\n)?
    (?:(?:dis)?similarity\ index\ \d+%\n)?
    (?:rename\ from\ (?P<renamed_from>.*)\nrename\ to\ (?P<renamed_to>.*)\n)?
    (?:new\ file\ mode\ (?P<created>\d+)\n)?
    (?:deleted\ file\ mode\ (?P<deleted>\d+)\n)?
    (?:index\ (?P<old_id>[0-9a-f]{40})\.\.(?P<new_id>[0-9a-f]{40})(?:\ (?P<mode>\d+))?\n)?
    (?:---\ (?P<old_path>.*)\n\+\+\+\ (?P<new_path>.*)\n)?""",
    re.VERBOSE,
)


class PatchDiff(Diff):
    """GitPython's `Diff`, filled from one file's part of a patch; its blobs are made at the first access."""

    def __init__(self, repo: Repo, header: re.Match[bytes], hunks: bytes) -> None:
        names, old_mode, new_mode, renamed_from, renamed_to, created, deleted, old_id, new_id, mode, old, new = (
            header.groups()
        )
        self.repo = repo
        self.old_id, self.new_id = old_id, new_id
        if old is not None:
            self.a_rawpath, self.b_rawpath = _path(old), _path(new)
        elif renamed_from is not None:
            self.a_rawpath, self.b_rawpath = decode_path(renamed_from, False), decode_path(renamed_to, False)
        else:
            self.a_rawpath, self.b_rawpath = _equal_paths(names)
        known, before = mode or new_mode or created, old_mode or deleted
        self.a_mode = _mode(before or (known if self.a_rawpath else None))
        self.b_mode = _mode(known or (before if self.b_rawpath else None))
        self.new_file, self.deleted_file, self.copied_file = created is not None, deleted is not None, False
        self.raw_rename_from, self.raw_rename_to = renamed_from, renamed_to
        self.diff = hunks
        self.change_type = None
        self.score = None

    @property
    def a_blob(self) -> IndexObject | None:
        """The file before the change."""
        return self._blob(self.old_id, self.a_mode, self.a_path)

    @property
    def b_blob(self) -> IndexObject | None:
        """The file after the change."""
        return self._blob(self.new_id, self.b_mode, self.b_path)

    def _blob(self, name: bytes | None, mode: int | None, path: str | None) -> IndexObject | None:
        if name is None or name == NULL_ID:
            return None
        kind = IndexObject if mode == SUBMODULE_MODE else Blob
        return kind(self.repo, bytes.fromhex(name.decode()), mode=mode, path=path)


class PatchFile(ModifiedFile):
    """PyDriller's `ModifiedFile` with the same values, counted in bytes."""

    _c_diff: PatchDiff

    @property
    def change_type(self) -> ModificationType:
        """The kind of change, as PyDriller names it; UNKNOWN means that only the mode changed."""
        diff = self._c_diff
        if diff.new_file:
            return ModificationType.ADD
        if diff.deleted_file:
            return ModificationType.DELETE
        if diff.raw_rename_from != diff.raw_rename_to:
            return ModificationType.RENAME
        if diff.old_id not in (None, NULL_ID, diff.new_id) and diff.new_id not in (None, NULL_ID):
            return ModificationType.MODIFY
        return ModificationType.UNKNOWN

    @property
    def hunks(self) -> bytes:
        """The hunks as git wrote them."""
        return self._c_diff.diff

    @property
    def old_path(self) -> str | None:
        """Path before the change; None for an added file."""
        path: str | None = self._c_diff.a_path
        return path

    @property
    def new_path(self) -> str | None:
        """Path after the change; None for a deleted file."""
        path: str | None = self._c_diff.b_path
        return path

    @property
    def added_lines(self) -> int:
        """Number of added lines."""
        return self._c_diff.diff.count(b"\n+")

    @property
    def deleted_lines(self) -> int:
        """Number of deleted lines."""
        return self._c_diff.diff.count(b"\n-")

    @property
    def blob_ids(self) -> tuple[str | None, str | None]:
        """Blob ids of the file before and after the change; None without a file or if the content stayed."""
        return _name(self._c_diff.old_id), _name(self._c_diff.new_id)

    @property
    def mode(self) -> int:
        """The file's mode after the change; of a deleted file its last one."""
        return self._c_diff.b_mode or self._c_diff.a_mode or 0


def parse_patch(repo: Repo, patch: bytes) -> Iterator[PatchFile]:
    """Yield the files of a patch as `git diff-tree -p --full-index` writes it, in their order."""
    start = 0
    while start < len(patch):
        header = HEADER.match(patch, start)
        assert header is not None, f"not the header of a file: {patch[start : start + 60]!r}"
        hunks = header.end()
        following = patch.find(b"\n" + FILE, hunks - 1)
        start = len(patch) if following < 0 else following + 1
        yield PatchFile(PatchDiff(repo, header, patch[hunks:start]))


def _path(line: bytes) -> bytes | None:
    """A path behind `---` or `+++`; git adds a tab to one that holds a space."""
    if line.startswith(b'"') or line == b"/dev/null":
        path: bytes | None = decode_path(line.removesuffix(b"\t"))
        return path
    return line[2:].removesuffix(b"\t")


def unquote_path(name: str) -> str:
    """Decode a path of a diff: git quotes a path with unusual characters, and escapes these."""
    if not name.startswith('"'):
        return name
    return (decode_path(name.encode(), False) or b"").decode(errors="replace")


def _equal_paths(line: bytes) -> tuple[bytes | None, bytes | None]:
    """Split `a/x b/x` into its two paths, which are equal if neither a rename nor a hunk names them."""
    if line.startswith(b'"'):
        half = (len(line) - 1) // 2
        return decode_path(line[:half]), decode_path(line[half + 1 :])
    half = len(line) // 2
    return line[2:half], line[half + 3 :]


@lru_cache(maxsize=64)
def _mode(text: bytes | None) -> int | None:
    return int(mode_str_to_int(text)) if text else None


def _name(object_id: bytes | None) -> str | None:
    return None if object_id is None or object_id == NULL_ID else object_id.decode()
