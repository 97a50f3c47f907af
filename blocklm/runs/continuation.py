"""A run that goes on from an earlier one: what that had learned, what is new since, and the way back to it.

Which commits a run had before it is told by their ids, in `learned.txt` of its directory: that holds after a force-push,
after other settings, and along a chain of top-ups.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from trl import ModelConfig

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.config.sampling import OF_NO_AGE
from blocklm.corpus.splits import NAMES
from blocklm.errors import UserError
from blocklm.files import replace_file
from blocklm.models.adapter import check_same_model
from blocklm.models.loading import model_config
from blocklm.runs.manifest import read_manifest

LEARNED = "learned.txt"
REJECTED = "rejected"
# What a run has learned, and the list of what it learned it from: they change places together.
RESULT = ("adapter_*", "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", LEARNED)


@dataclass(frozen=True)
class Previous:
    """A complete run that another goes on from; `learned` holds the ids of the commits that it had before it."""

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    learned: frozenset[str]


@dataclass(frozen=True)
class TopUp:
    """What a top-up reads and is asked: the splits, which training samples are new, and the manifest's `continued_from`."""

    splits: DatasetDict
    new: NDArray[np.bool_]
    report: dict[str, Any]


def previous_run(named: str, config: ModelConfig) -> Previous:
    """Read the run that `continue_from` names.

    Args:
        named: its directory.
        config: the model of the run that goes on from it.

    Raises:
        UserError: it is not complete, its result is gone, it does not say what it learned, or it is of another model.
    """
    path = Path(named).expanduser()
    manifest = read_manifest(path)
    if manifest is None or manifest["status"] != "complete":
        raise UserError(
            f"`continue_from` names `{named}`, which is not a complete run",
            "end it by its own command first, or name another",
        )
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"the adapter of `{named}` is gone", "name another run in `continue_from`, or train anew without it"
        )
    recipe = parse_recipe([str(path / "recipe.yaml")])
    check_same_model(config, model_config(recipe.model), path)
    return Previous(path, recipe, manifest, learned_commits(path))


def learned_commits(run_dir: Path) -> frozenset[str]:
    """The commits that a run had before it, those of the runs that it goes on from included.

    Raises:
        UserError: the run is of a version that did not say so.
    """
    path = run_dir / LEARNED
    if not path.is_file():
        raise UserError(f"`{run_dir}` does not say which commits it learned: there is no {LEARNED}", "train it again")
    return frozenset(path.read_text(encoding="utf-8").split())


def write_learned(run_dir: Path, commits: Iterable[str]) -> None:
    """Put the list beside what will be learned from it."""
    replace_file(run_dir / LEARNED, "".join(f"{commit}\n" for commit in sorted(commits)))


def teaching_commits(changes: Dataset, verdicts: Dataset) -> frozenset[str]:
    """All commits of the training split, also those that curation left out: the files where training ends hold them too."""
    table = verdicts.data.table
    rows = table.filter(pc.equal(pc.fill_null(table["split"], ""), "train"))["row"].unique()
    return frozenset(changes.data.table["commit"].take(rows).to_pylist())


def top_up(previous: Previous, changes: Dataset, splits: DatasetDict, recipe: Recipe) -> TopUp:
    """Tell what is new since the previous run, and keep from guidance and exam what it learned.

    Args:
        previous: the run to go on from.
        changes: of the whole history.
        splits: the samples.
        recipe: of this run.

    Raises:
        UserError: another history, nothing new, or nothing left to ask.
    """
    gone = _check_known(previous, changes.unique("commit"))
    new = _new_samples(splits["train"], previous, recipe.sampling.shares)
    kept, dropped = _without_learned(splits, previous, recipe.exam_view)
    report = {
        "path": str(previous.path),
        "head": previous.manifest["repository"]["head"],
        "new_commits": len(set(splits["train"].data.table["commit"].filter(pa.array(new)).to_pylist())),
        "new_samples": int(new.sum()),
        "learned_commits": len(previous.learned),
        "rewritten_commits": gone,
        "not_asked_commits": dropped,
    }
    return TopUp(kept, new, report)


def _check_known(previous: Previous, commits: Iterable[str]) -> int:
    """How many of the learned commits the history no longer has.

    Args:
        previous: the run to go on from.
        commits: all of the history.

    Raises:
        UserError: it has none of them: another repository, or one that was rewritten from its beginning.
    """
    gone = previous.learned.difference(commits)
    if len(gone) == len(previous.learned):
        raise UserError(
            f"none of the {len(gone)} commits that `{previous.path}` learned is in this history",
            "it is another repository, or was rewritten from its beginning: train anew without `continue_from`",
        )
    return len(gone)


def unlearned(samples: Dataset, learned: frozenset[str]) -> Dataset:
    """The samples of commits that were not learned."""
    return samples.select([at for at, commit in enumerate(samples["commit"][:]) if commit not in learned])


def _without_learned(splits: DatasetDict, previous: Previous, view: str) -> tuple[DatasetDict, int]:
    """The splits without what would guide or examine on text that was learned before, and how many commits that is.

    It happens where a branch was learned before its merge, with which it lands anew; else the new exam is of later commits.

    Args:
        splits: of the corpus.
        previous: the run to go on from.
        view: the one that is asked in.

    Raises:
        UserError: nothing is left to ask.
    """
    learned = previous.learned
    dropped: set[str] = set()
    kept = {"train": splits["train"]}
    for name in NAMES[1:]:
        dropped |= learned.intersection(splits[name].unique("commit"))
        kept[name] = unlearned(splits[name], learned)
        if view not in kept[name]["view"][:]:
            raise UserError(
                f"`{previous.path}` learned all commits of {name}: nothing is left to ask",
                "go on when there are later commits, or train anew without `continue_from`",
            )
    return DatasetDict(kept), len(dropped)


def _new_samples(train: Dataset, previous: Previous, views: Iterable[str]) -> NDArray[np.bool_]:
    """Which training samples are new since the previous run: those of commits that it had not, and the files they touch.

    Args:
        train: the training split.
        previous: the run to go on from.
        views: those that are read.

    Raises:
        UserError: nothing is.
    """
    table = train.data.table
    known = pc.is_in(table["commit"], pa.array(previous.learned, pa.string())).to_numpy()
    of_files = pc.is_in(table["view"], pa.array(OF_NO_AGE)).to_numpy()
    touched = table["path"].filter(pa.array(~known & ~of_files)).unique()
    new = np.where(of_files, pc.is_in(table["path"], touched).to_numpy(), ~known)
    read = pc.is_in(table["view"], pa.array(list(views))).to_numpy() & (table["weight"].to_numpy() > 0)
    if not (new & read & ~of_files).any():
        head = previous.manifest["repository"]["head"]
        raise UserError(
            f"nothing new to learn since commit {head[:12]}: `{previous.path}` learned all that trains now",
            "`git pull` first; the newest commits are kept for the exam, and a lower `test_commits` frees some of them",
        )
    return np.asarray(new)


def roll_back(run_dir: Path, previous: Path) -> None:
    """Put the result of the previous run in the place of this one's, which is kept in `rejected/`.

    Each file changes in one step; after a kill at any time, calling it again ends in the same state.
    """
    rejected, filling = run_dir / REJECTED, run_dir / f".{REJECTED}"
    if not rejected.exists():
        shutil.rmtree(filling, ignore_errors=True)
        filling.mkdir()
        for path in _result(run_dir):
            shutil.copy2(path, filling / path.name)
        filling.rename(rejected)
    if (run_dir / "best").is_dir():
        (run_dir / "best").rename(rejected / "best")
    theirs = _result(previous)
    assert theirs, "it was there when the run began"
    for path in theirs:
        arriving = run_dir / f".{path.name}"
        shutil.copy2(path, arriving)
        arriving.replace(run_dir / path.name)
    for path in _result(run_dir):
        if not (previous / path.name).exists():
            path.unlink()


def _result(run_dir: Path) -> list[Path]:
    return sorted({path for pattern in RESULT for path in run_dir.glob(pattern)})
