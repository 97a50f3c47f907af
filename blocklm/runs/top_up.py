"""The files of a top-up, a run that continues an earlier one: what that had learned, and the way back to it.

Which commits a run had before it is told by their ids, in `learned.txt` of its directory: that holds after a force-push,
after other settings, and along a chain of top-ups.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl import ModelConfig

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.corpus.new_samples import Learned
from blocklm.errors import UserError
from blocklm.files import replace_file
from blocklm.models.adapter import check_same_model
from blocklm.models.loading import model_config
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.manifest import read_complete_manifest

LEARNED = "learned.txt"
REJECTED = "rejected"
# What a run has learned, and the list of what it learned it from: they change places together.
RESULT = ("adapter_config.json", "model.safetensors.index.json", "config.json", "generation_config.json", LEARNED)


@dataclass(frozen=True)
class Previous:
    """A complete run that another continues; `learned` holds the ids of the commits that it was trained from."""

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    learned: frozenset[str]

    @property
    def history(self) -> Learned:
        """What of the history it had before it."""
        return Learned(self.learned, str(self.path), self.manifest["repository"]["head"])


def previous_run(named: str, config: ModelConfig) -> Previous:
    """Read the run that `continue_from` names.

    Args:
        named: its directory.
        config: the model of the run that continues it.

    Raises:
        UserError: it is not complete, its result is gone, it does not say what it learned, or it is of another model.
    """
    path = Path(named).expanduser()
    manifest = read_complete_manifest(path, f"`{named}`, which `continue_from` names,")
    recipe = parse_recipe([str(path / "recipe.yaml")])
    check_same_model(config, model_config(recipe.model), path)
    return Previous(path, recipe, manifest, learned_commits(path))


def learned_commits(run_dir: Path) -> frozenset[str]:
    """Read the ids of the commits that a run was trained from, those of the runs that it continues included.

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
    return sorted([*saved_weights(run_dir), *(run_dir / name for name in RESULT if (run_dir / name).is_file())])
