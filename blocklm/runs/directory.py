"""Claims a run directory for a recipe, and refuses one that holds another run."""

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
    """Claim the recipe's `output_dir` for this run; return a summary instead if the run is already complete.

    A directory without checkpoints and weights may be claimed for any recipe. Of several processes only the first
    writes.

    Args:
        recipe: the recipe of this run.
        head: present head of the repository, or of all repositories together.

    Returns:
        The summary of the complete run, or None if there is work to do.

    Raises:
        UserError: the directory holds a run of another recipe or another head, or its name cannot be opened by all
            libraries.
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
        # The manifest of a run whose weights were deleted would describe a result that is gone.
        (recipe.output_dir / "manifest.json").unlink(missing_ok=True)
    replace_file(path, yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True))
    _log_damage(recipe.output_dir)
    return None


def _holds_work(run_dir: Path) -> bool:
    return bool(checkpoints(run_dir) or saved_weights(run_dir))


def _check_recipe(recipe: Recipe, path: Path) -> None:
    stored, given = load_yaml(path) if path.is_file() else {}, recipe.resolved()
    differing = sorted(key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key))
    if differing:
        key = differing[0]
        raise UserError(
            f"`{path.parent}` holds a run of another recipe: `{key}` was {stored.get(key)!r}, now {given.get(key)!r}",
            f"give another `--output_dir`, or delete `{path.parent}`",
        )


def _check_head(run_dir: Path, manifest: dict[str, object] | None, head: str) -> None:
    repository = (manifest or {}).get("repository")
    if isinstance(repository, dict) and repository["head"] != head:
        raise UserError(
            f"`{run_dir}` was trained on commit {repository['head'][:12]}, and the repository is now at {head[:12]}",
            f"give another `--output_dir` for the new commits, or delete `{run_dir}`",
        )


def _log_damage(output_dir: Path) -> None:
    """Log each damaged checkpoint that is skipped, and the one from which the run resumes."""
    intact = latest_checkpoint(output_dir)
    consequence = f"training resumes from {intact.name}" if intact else "training begins at step 0"
    for path in checkpoints(output_dir):
        if path == intact:
            break
        logger.warning("%s is damaged (%s): %s", path.name, damage_of(path), consequence)
