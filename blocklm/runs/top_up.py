"""Reads the run that a top-up continues, and restores its result if the top-up is worse.

`learned.txt` in a run directory lists the ids of the commits that the run was trained on, so that they are known after
a force-push, after other settings, and along a chain of top-ups.
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
from blocklm.models.pretrained import model_config
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.manifest import read_complete_manifest, views_of_before

LEARNED = "learned.txt"
REJECTED = "rejected"
# Files of a result beside its weights, and the list of commits behind it: they are replaced together.
RESULT = ("adapter_config.json", "model.safetensors.index.json", "config.json", "generation_config.json", LEARNED)


@dataclass(frozen=True)
class Previous:
    """A complete run that another run continues.

    Attributes:
        path: its run directory.
        recipe: its recipe.
        manifest: content of its `manifest.json`.
        learned: ids of the commits that it was trained on.
    """

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    learned: frozenset[str]

    @property
    def history(self) -> Learned:
        """The part of the history that it was trained on."""
        return Learned(self.learned, str(self.path), self.manifest["repository"]["head"])


def previous_run(continue_from: str, config: ModelConfig) -> Previous:
    """Read the run that `continue_from` names.

    Args:
        continue_from: directory of that run.
        config: model keys of the run that continues it.

    Raises:
        UserError: the run is not complete, has another model, or its result or its list of commits is gone.
    """
    path = Path(continue_from).expanduser()
    manifest = read_complete_manifest(path, f"`{continue_from}`, which `continue_from` names,")
    if old := views_of_before(manifest):
        raise UserError(
            f"`{continue_from}` was taught the view `{old[0]}`, which has another form today: continuing would mix both",
            "train without `continue_from`",
        )
    recipe = parse_recipe([str(path / "recipe.yaml")])
    check_same_model(config, model_config(recipe.model), path)
    return Previous(path, recipe, manifest, learned_commits(path))


def learned_commits(run_dir: Path) -> frozenset[str]:
    """Read the ids of the commits that a run was trained on, including those of the runs that it continues.

    Raises:
        UserError: the run directory has no such list.
    """
    path = run_dir / LEARNED
    if not path.is_file():
        raise UserError(
            f"`{run_dir}` does not say which commits it was trained on: there is no {LEARNED}",
            "train that run again, or set `continue_from` to another run",
        )
    return frozenset(path.read_text(encoding="utf-8").split())


def write_learned(run_dir: Path, commits: Iterable[str]) -> None:
    """Write the ids of the commits that a run is trained on."""
    replace_file(run_dir / LEARNED, "".join(f"{commit}\n" for commit in sorted(commits)))


def roll_back(run_dir: Path, previous: Path) -> None:
    """Replace a run's result by that of the previous run, and keep the replaced one in `rejected/`.

    Each file is replaced atomically; after a kill at any time, calling this again ends in the same state.
    """
    rejected, partial = run_dir / REJECTED, run_dir / f".{REJECTED}"
    if not rejected.exists():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for path in _result_files(run_dir):
            shutil.copy2(path, partial / path.name)
        partial.rename(rejected)
    if (run_dir / "best").is_dir():
        (run_dir / "best").rename(rejected / "best")
    restored = _result_files(previous)
    assert restored, "it was there when the run began"
    for path in restored:
        partial_copy = run_dir / f".{path.name}"
        shutil.copy2(path, partial_copy)
        partial_copy.replace(run_dir / path.name)
    for path in _result_files(run_dir):
        if not (previous / path.name).exists():
            path.unlink()


def _result_files(run_dir: Path) -> list[Path]:
    return sorted([*saved_weights(run_dir), *(run_dir / name for name in RESULT if (run_dir / name).is_file())])
