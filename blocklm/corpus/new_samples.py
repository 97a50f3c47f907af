"""What of a history is new since an earlier run, and what that run left to guide training and to be asked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from blocklm.config.recipe import Recipe
from blocklm.config.sampling import OF_NO_AGE
from blocklm.corpus.splits import NAMES
from blocklm.errors import UserError


@dataclass(frozen=True)
class Learned:
    """The ids of the commits that an earlier run had before it, how messages name that run, and the head it was split at."""

    commits: frozenset[str]
    run: str
    head: str


@dataclass(frozen=True)
class TopUp:
    """What a top-up reads and is asked: the splits, which training samples are new, and the manifest's `continued_from`."""

    splits: DatasetDict
    new: NDArray[np.bool_]
    report: dict[str, Any]


def teaching_commits(changes: Dataset, verdicts: Dataset) -> frozenset[str]:
    """All commits of the training split, also those that curation left out: the files where training ends hold them too."""
    table = verdicts.data.table
    rows = table.filter(pc.equal(pc.fill_null(table["split"], ""), "train"))["row"].unique()
    return frozenset(changes.data.table["commit"].take(rows).to_pylist())


def top_up(earlier: Learned, changes: Dataset, splits: DatasetDict, recipe: Recipe) -> TopUp:
    """Tell what is new since the previous run, and keep from guidance and exam what it learned.

    Args:
        earlier: what the run to go on from had before it.
        changes: of the whole history.
        splits: the samples.
        recipe: of this run.

    Raises:
        UserError: another history, nothing new, or nothing left to ask.
    """
    gone = _check_known(earlier, changes.unique("commit"))
    new = _new_samples(splits["train"], earlier, recipe.sampling.shares)
    kept, dropped = _without_learned(splits, earlier, recipe.exam_view)
    report = {
        "path": earlier.run,
        "head": earlier.head,
        "new_commits": len(set(splits["train"].data.table["commit"].filter(pa.array(new)).to_pylist())),
        "new_samples": int(new.sum()),
        "learned_commits": len(earlier.commits),
        "rewritten_commits": gone,
        "not_asked_commits": dropped,
    }
    return TopUp(kept, new, report)


def _check_known(earlier: Learned, commits: Iterable[str]) -> int:
    """How many of the learned commits the history no longer has.

    Args:
        earlier: what the run to go on from had before it.
        commits: all of the history.

    Raises:
        UserError: it has none of them: another repository, or one that was rewritten from its beginning.
    """
    gone = earlier.commits.difference(commits)
    if len(gone) == len(earlier.commits):
        raise UserError(
            f"none of the {len(gone)} commits that `{earlier.run}` learned is in this history",
            "it is another repository, or was rewritten from its beginning: train anew without `continue_from`",
        )
    return len(gone)


def unlearned(samples: Dataset, learned: frozenset[str]) -> Dataset:
    """The samples of commits that were not learned."""
    return samples.select([at for at, commit in enumerate(samples["commit"][:]) if commit not in learned])


def _without_learned(splits: DatasetDict, earlier: Learned, view: str) -> tuple[DatasetDict, int]:
    """The splits without what would guide or examine on text that was learned before, and how many commits that is.

    It happens where a branch was learned before its merge, with which it lands anew; else the new exam is of later commits.

    Args:
        splits: of the corpus.
        earlier: what the run to go on from had before it.
        view: the one that is asked in.

    Raises:
        UserError: nothing is left to ask.
    """
    learned = earlier.commits
    dropped: set[str] = set()
    kept = {"train": splits["train"]}
    for name in NAMES[1:]:
        dropped |= learned.intersection(splits[name].unique("commit"))
        kept[name] = unlearned(splits[name], learned)
        if view not in kept[name]["view"][:]:
            raise UserError(
                f"`{earlier.run}` learned all commits of {name}: nothing is left to ask",
                "go on when there are later commits, or train anew without `continue_from`",
            )
    return DatasetDict(kept), len(dropped)


def _new_samples(train: Dataset, earlier: Learned, views: Iterable[str]) -> NDArray[np.bool_]:
    """Which training samples are new since the previous run: those of commits that it had not, and the files they touch.

    Args:
        train: the training split.
        earlier: what the run to go on from had before it.
        views: those that are read.

    Raises:
        UserError: nothing is.
    """
    table = train.data.table
    known = pc.is_in(table["commit"], pa.array(earlier.commits, pa.string())).to_numpy()
    of_files = pc.is_in(table["view"], pa.array(OF_NO_AGE)).to_numpy()
    touched = table["path"].filter(pa.array(~known & ~of_files)).unique()
    new = np.where(of_files, pc.is_in(table["path"], touched).to_numpy(), ~known)
    read = pc.is_in(table["view"], pa.array(list(views))).to_numpy() & (table["weight"].to_numpy() > 0)
    if not (new & read & ~of_files).any():
        raise UserError(
            f"nothing new to learn since commit {earlier.head[:12]}: `{earlier.run}` learned all that trains now",
            "`git pull` first; the newest commits are kept for the exam, and a lower `test_commits` frees some of them",
        )
    return np.asarray(new)
