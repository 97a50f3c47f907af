"""Reads the change to review: a commit, a range, or the staged changes; without secrets, generated files and moves.

Git runs in an isolated repository that borrows the objects of the user's. Staged changes are read from a copy of the
index there: the work tree, and programs that config and attributes name for it, are never used.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from blocklm.assistant.diff_input import pasted_hunks
from blocklm.corpus.views import HunkText
from blocklm.errors import UserError
from blocklm.git.isolation import failure_of, git_output, isolated_repository, run_git
from blocklm.git.patch_stream import EMPTY_TREE
from blocklm.git.repository import COMMIT, Repository
from blocklm.mining.filters import FilterLimits
from blocklm.mining.messages import clean_message
from blocklm.mining.redaction import redact

PATCH = (
    "-r", "-M", "-p", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
INDEX = ("rev-parse", "--path-format=absolute", "--git-path", "index")
MAX_CHARS = 8_000_000  # longest diff that is searched for secrets
SUBJECTS = 5  # most commits of a range whose subjects are shown


@dataclass(frozen=True, slots=True)
class ReviewedChange:
    """A change under review.

    Attributes:
        repo: name of the repository.
        name: name of the change: a short commit id, a range of two, or `staged`.
        subject: subjects of its commits; empty if it is staged.
        hunks: its hunks.
        commits: ids of its commits; none if it is staged.
    """

    repo: str
    name: str
    subject: str
    hunks: tuple[HunkText, ...]
    commits: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is shown of the change."""
        texts = (self.subject, *(f"{hunk.path}\n{hunk.diff}" for hunk in self.hunks))
        return sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()


def read_committed_change(
    repositories: Sequence[Repository], rev: str, limits: FilterLimits, context_lines: int
) -> ReviewedChange:
    """Read the change of a commit, or of a range since its ends parted.

    A commit is compared with its first parent, so the change of a merge is all that it brought. A range such as
    `main..topic` is the change of `topic` since it left `main`.

    Args:
        repositories: repositories to search; the first that has the commit is used.
        rev: commit or range, as git names it.
        limits: filter limits that the run was mined with; what they drop is not shown.
        context_lines: unchanged lines shown around each change.

    Raises:
        UserError: there is no such commit, or its diff has no text.
    """
    first, dots, last = rev.replace("...", "..").partition("..")
    for repository in repositories:
        tip = _resolve(repository, last or "HEAD" if dots else rev)
        base = _merge_base(repository, first or "HEAD", tip) if dots else _first_parent(repository, tip)
        if tip and base:
            break
    else:
        places = ", ".join(str(repository.path) for repository in repositories)
        missing = "no two commits with a common ancestor" if dots else "no commit"
        raise UserError(
            f"`{rev}` names {missing} in {places}", "name one that `git log --oneline` lists, or set `--repo`"
        )
    name = f"{base[:12]}..{tip[:12]}" if dots else tip[:12]
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        excluded = [] if base == EMPTY_TREE else [f"^{base}"]
        commits = run_git(environment, "rev-list", tip, *excluded).stdout.split() if dots or excluded else [tip]
        diff = _output(environment, "diff-tree", *PATCH, f"-U{context_lines}", base, tip)
        shown = commits[:SUBJECTS] if dots else [tip]
        subjects = [_subject(environment, sha) for sha in shown]
    hunks = _hunks(diff, repository.name, limits, f"`{rev}` changes no text", "name another commit")
    return ReviewedChange(repository.name, name, "; ".join(filter(None, subjects)), hunks, tuple(commits))


def read_staged_change(repositories: Sequence[Repository], limits: FilterLimits, context_lines: int) -> ReviewedChange:
    """Read the staged changes of the repository that contains the working directory, or else of the first.

    Args:
        repositories: repositories of the run.
        limits: filter limits that the run was mined with; what they drop is not shown.
        context_lines: unchanged lines shown around each change.

    Raises:
        UserError: no text is staged, or the index cannot be read.
    """
    here = Path.cwd()
    around = (repository for repository in repositories if here.is_relative_to(repository.path))
    repository = next(around, repositories[0])
    head = _resolve(repository, "HEAD")
    assert head is not None, "a repository without commits was refused when it was opened"
    index = Path((git_output(repository.path, *INDEX) or "").removesuffix("\n"))
    if not index.is_file():
        raise UserError(f"{repository.path} has no index: nothing is staged there", "name a commit, or check one out")
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        # A split index is stored in two files. Git is not asked for the second's name: it would start a file monitor.
        for source in (index, *index.parent.glob("sharedindex.*")):
            shutil.copyfile(source, Path(environment["GIT_DIR"]) / source.name)
        diff = _output(environment, "diff-index", "--cached", *PATCH, f"-U{context_lines}", head)
    hint = "run `git add` on the files to review, or name a commit"
    hunks = _hunks(diff, repository.name, limits, f"no change of text is staged in {repository.path}", hint)
    return ReviewedChange(repository.name, "staged", "", hunks)


def _resolve(repository: Repository, rev: str) -> str | None:
    """Find the full id of a commit; None if there is none of that name."""
    output = git_output(repository.path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    sha = (output or "").strip()
    return sha if COMMIT.fullmatch(sha) else None


def _merge_base(repository: Repository, rev: str, tip: str | None) -> str | None:
    """Find the newest common ancestor of two commits; None if there is none."""
    other = _resolve(repository, rev)
    output = git_output(repository.path, "merge-base", other, tip) if other and tip else None
    return (output or "").split("\n")[0] or None


def _first_parent(repository: Repository, sha: str | None) -> str | None:
    """Find the tree or commit that a commit is compared with: its first parent, or the empty tree."""
    if sha is None:
        return None
    if sha in repository.shallow:
        raise UserError(
            f"{sha[:12]} is where this shallow clone of {repository.path} begins: what it changed is not here",
            "run `git fetch --unshallow`, or name a later commit",
        )
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        parents = _output(environment, "rev-list", "--parents", "--max-count=1", sha).split()[1:]
    return parents[0] if parents else EMPTY_TREE


def _subject(environment: dict[str, str], sha: str) -> str:
    author, _, message = _output(environment, "log", "-1", "--format=%an%x00%B", sha).partition("\0")
    return redact([clean_message(message, author)])[0].text.partition("\n")[0]


def _hunks(diff: str, repo: str, limits: FilterLimits, error: str, hint: str) -> tuple[HunkText, ...]:
    if "\n@@ -" not in diff:
        raise UserError(error, hint)
    if len(diff) > MAX_CHARS:
        raise UserError(f"{len(diff) / 1e6:.0f} MB of changes are more than can be reviewed", "name a smaller change")
    return tuple(pasted_hunks(diff, repo, limits))


def _output(environment: dict[str, str], *arguments: str) -> str:
    done = run_git(environment, *arguments)
    if done.returncode != 0:
        raise UserError(f"the change cannot be read: {failure_of(done)}", "run `git fsck` to see what is damaged")
    return done.stdout.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
