"""The run directory: whose it is, what it already holds, and which of its checkpoints training can resume from."""

import logging
from pathlib import Path

import yaml

from blocklm.config.recipe import Recipe
from blocklm.config.recipe_file import load_yaml
from blocklm.errors import UserError
from blocklm.files import check_spelling, replace_file
from blocklm.runs.checkpoints import checkpoints, damage_of, latest_checkpoint, saved_weights
from blocklm.runs.lock import is_first_process
from blocklm.runs.manifest import read_manifest
from blocklm.runs.summary import summarise

logger = logging.getLogger(__name__)


def claim_run_directory(recipe: Recipe, head: str) -> str | None:
    """Take the recipe's `output_dir` for this run, or return the summary of the run if it is complete there.

    A directory in which nothing was trained yet is free for any recipe. Of several processes only the first writes.

    Raises:
        UserError: it holds a run of another recipe, or of another state of the repository, or has a name that no library
            can open.
    """
    check_spelling("output_dir", recipe.output_dir)
    check_spelling("model_name_or_path", Path(str(recipe.model["model_name_or_path"])))
    path = recipe.output_dir / "recipe.yaml"
    manifest = read_manifest(recipe.output_dir)
    if _holds_work(recipe.output_dir):
        _check_recipe(recipe, path)
        _check_head(recipe.output_dir, manifest, head)
        if manifest is not None and manifest["status"] == "complete":
            return summarise(recipe.output_dir, manifest)
    if not is_first_process():
        return None
    if not _holds_work(recipe.output_dir):
        # A manifest whose work was deleted would claim a training whose result is gone.
        (recipe.output_dir / "manifest.json").unlink(missing_ok=True)
    replace_file(path, yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True))
    _tell_damage(recipe.output_dir)
    return None


def _holds_work(run_dir: Path) -> bool:
    return bool(checkpoints(run_dir) or saved_weights(run_dir))


def _check_recipe(recipe: Recipe, path: Path) -> None:
    theirs, ours = load_yaml(path) if path.is_file() else {}, recipe.resolved()
    differing = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
    if differing:
        key = differing[0]
        raise UserError(
            f"`{path.parent}` holds a run of another recipe: `{key}` was {theirs.get(key)!r}, now {ours.get(key)!r}",
            "give another `--output_dir`, or delete that one",
        )


def _check_head(run_dir: Path, manifest: dict[str, object] | None, head: str) -> None:
    repository = (manifest or {}).get("repository")
    if isinstance(repository, dict) and repository["head"] != head:
        raise UserError(
            f"`{run_dir}` was trained on commit {repository['head'][:12]}, and the repository is now at {head[:12]}",
            "give another `--output_dir` for the new commits, or delete that one",
        )


def _tell_damage(output_dir: Path) -> None:
    """Log which checkpoints are passed over, and from where the run resumes instead."""
    whole = latest_checkpoint(output_dir)
    goes_on = f"training resumes from {whole.name}" if whole else "training begins at step 0"
    for path in checkpoints(output_dir):
        if path == whole:
            break
        logger.warning("%s is not whole (%s): %s", path.name, damage_of(path), goes_on)
