"""Selects the samples that are new since an earlier run, and the held-out samples that it did not learn."""

from collections.abc import Iterable, Sequence
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
    """What an earlier run learned.

    Attributes:
        commits: ids of the commits it could learn from.
        run: name of the run in messages.
        head: commit from which its history was split.
    """

    commits: frozenset[str]
    run: str
    head: str


@dataclass(frozen=True)
class TopUp:
    """The data of a run that continues an earlier one.

    Attributes:
        splits: samples by split; validation and test without commits that the earlier run learned.
        new: for each training sample, whether it is new.
        report: the manifest's `continued_from`.
    """

    splits: DatasetDict
    new: NDArray[np.bool_]
    report: dict[str, Any]


def teaching_commits(changes: Dataset, verdicts: Dataset) -> frozenset[str]:
    """Collect the commits of the training split.

    Commits that curation dropped are included: the files at the end of training contain them too.
    """
    table = verdicts.data.table
    rows = table.filter(pc.equal(pc.fill_null(table["split"], ""), "train"))["row"].unique()
    return frozenset(changes.data.table["commit"].take(rows).to_pylist())


def top_up(earlier: Learned, changes: Dataset, splits: DatasetDict, recipe: Recipe) -> TopUp:
    """Find what is new since the previous run, and remove from validation and test what that run learned.

    Args:
        earlier: what the previous run learned.
        changes: changes dataset of the full history.
        splits: samples by split.
        recipe: recipe of this run.

    Raises:
        UserError: the history is another, nothing is new, or validation or test is left empty.
    """
    gone = _count_rewritten(earlier, changes.unique("commit"))
    new = _find_new_samples(splits["train"], earlier, recipe.sampling.shares)
    kept, dropped = _drop_learned(splits, earlier, recipe.exam_views)
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


def _count_rewritten(earlier: Learned, commits: Iterable[str]) -> int:
    """Count the learned commits that the history no longer has.

    Args:
        earlier: what the previous run learned.
        commits: ids of all commits of the history.

    Raises:
        UserError: the history has none of them: it is another repository, or was rewritten from its beginning.
    """
    gone = earlier.commits.difference(commits)
    if len(gone) == len(earlier.commits):
        raise UserError(
            f"none of the {len(gone)} commits that `{earlier.run}` learned is in this history",
            "it is another repository, or was rewritten from its beginning: train without `continue_from`",
        )
    return len(gone)


def unlearned(samples: Dataset, learned: frozenset[str]) -> Dataset:
    """Select the samples whose commits were not learned."""
    return samples.select([row for row, commit in enumerate(samples["commit"][:]) if commit not in learned])


def _drop_learned(splits: DatasetDict, earlier: Learned, views: Sequence[str]) -> tuple[DatasetDict, int]:
    """Remove from validation and test the commits that the previous run learned.

    There are such commits only where a branch was learned before it was merged: it lands again with its merge.

    Args:
        splits: samples by split.
        earlier: what the previous run learned.
        views: views in which the exam asks.

    Returns:
        The remaining samples, and the number of removed commits.

    Raises:
        UserError: a split has no sample of these views left.
    """
    learned = earlier.commits
    dropped: set[str] = set()
    kept = {"train": splits["train"]}
    for name in NAMES[1:]:
        dropped |= learned.intersection(splits[name].unique("commit"))
        kept[name] = unlearned(splits[name], learned)
        if not set(views).intersection(kept[name]["view"][:]):
            raise UserError(
                f"`{earlier.run}` learned all commits of {name}: nothing is left to ask",
                "continue the run when there are later commits, or train without `continue_from`",
            )
    return DatasetDict(kept), len(dropped)


def _find_new_samples(train: Dataset, earlier: Learned, views: Iterable[str]) -> NDArray[np.bool_]:
    """Mark the training samples that are new: those of commits that were not learned, and of the files these touch.

    Args:
        train: samples of the training split.
        earlier: what the previous run learned.
        views: views that are trained on.

    Raises:
        UserError: no sample is new.
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
