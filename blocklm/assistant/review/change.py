"""The change that is reviewed: of a commit, of a range, or what is staged; without secrets, generated files and moves.

It is read from a sterile repository that borrows the objects. What is staged stands in the index, of which a copy is read
there: the work tree, and what config and attributes name for it, is never looked at.
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
MAX_CHARS = 8_000_000  # of a diff that is searched for secrets
SUBJECTS = 5  # of a range


@dataclass(frozen=True, slots=True)
class ReviewedChange:
    """A change; `name` says which, and `commits` are those that it holds: none if it is staged."""

    repo: str
    name: str
    subject: str
    hunks: tuple[HunkText, ...]
    commits: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of all that is shown of it."""
        texts = (self.subject, *(f"{hunk.path}\n{hunk.diff}" for hunk in self.hunks))
        return sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()


def committed(
    repositories: Sequence[Repository], rev: str, limits: FilterLimits, context_lines: int
) -> ReviewedChange:
    """What a commit changes, of a merge what it brought to its first parent; or what `main..topic` did since it left `main`.

    Args:
        repositories: the first that has it is meant.
        rev: as git names it.
        limits: what is not shown, because it was not learned from.
        context_lines: around each change.

    Raises:
        UserError: there is no such commit, or no text in its diff.
    """
    first, dots, last = rev.replace("...", "..").partition("..")
    for repository in repositories:
        tip = _resolved(repository, last or "HEAD" if dots else rev)
        base = _common(repository, first or "HEAD", tip) if dots else _parent(repository, tip)
        if tip and base:
            break
    else:
        places = ", ".join(str(repository.path) for repository in repositories)
        what = "no two commits with a common past" if dots else "no commit"
        raise UserError(f"`{rev}` names {what} in {places}", "`git log --oneline` lists them; `--repo` says where")
    name = f"{base[:12]}..{tip[:12]}" if dots else tip[:12]
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        excluded = [] if base == EMPTY_TREE else [f"^{base}"]
        commits = run_git(environment, "rev-list", tip, *excluded).stdout.split() if dots or excluded else [tip]
        diff = _output(environment, "diff-tree", *PATCH, f"-U{context_lines}", base, tip)
        shown = commits[:SUBJECTS] if dots else [tip]
        subjects = [_subject(environment, sha) for sha in shown]
    hunks = _hunks(diff, repository.name, limits, f"`{rev}` changes no text", "name another commit")
    return ReviewedChange(repository.name, name, "; ".join(filter(None, subjects)), hunks, tuple(commits))


def staged(repositories: Sequence[Repository], limits: FilterLimits, context_lines: int) -> ReviewedChange:
    """What `git add` has taken, in the repository that we stand in, or else in the first.

    Raises:
        UserError: nothing of text is staged, or the index cannot be read.
    """
    here = Path.cwd()
    within = (one for one in repositories if one.path == here or one.path in here.parents)
    repository = next(within, repositories[0])
    head = _resolved(repository, "HEAD")
    assert head is not None, "a repository without commits was refused when it was opened"
    index = Path((git_output(repository.path, *INDEX) or "").removesuffix("\n"))
    if not index.is_file():
        raise UserError(f"{repository.path} has no index: nothing is staged there", "name a commit, or check one out")
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        # Beside a split index stands the one that most of it is in; git itself, asked for its name, runs a monitor of files.
        for source in (index, *index.parent.glob("sharedindex.*")):
            shutil.copyfile(source, Path(environment["GIT_DIR"]) / source.name)
        diff = _output(environment, "diff-index", "--cached", *PATCH, f"-U{context_lines}", head)
    hint = "`git add` what is to be reviewed, or name a commit"
    hunks = _hunks(diff, repository.name, limits, f"no change of text is staged in {repository.path}", hint)
    return ReviewedChange(repository.name, "staged", "", hunks)


def _resolved(repository: Repository, rev: str) -> str | None:
    """The commit's full name."""
    found = git_output(repository.path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    sha = (found or "").strip()
    return sha if COMMIT.fullmatch(sha) else None


def _common(repository: Repository, rev: str, tip: str | None) -> str | None:
    """Where the way to `tip` leaves that to another commit."""
    other = _resolved(repository, rev)
    found = git_output(repository.path, "merge-base", other, tip) if other and tip else None
    return (found or "").split("\n")[0] or None


def _parent(repository: Repository, sha: str | None) -> str | None:
    """What a commit is compared with."""
    if sha is None:
        return None
    if sha in repository.shallow:
        raise UserError(
            f"{sha[:12]} is where this shallow clone of {repository.path} begins: what it changed is not here",
            "`git fetch --unshallow`, or name a later commit",
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
        raise UserError(f"the change cannot be read: {failure_of(done)}", "`git fsck` says what is damaged")
    return done.stdout.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
