"""The run directory: whose it is, what it already holds, and which of its checkpoints can be gone on from."""

import json
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open

from blocklm.config.parser import load_yaml
from blocklm.config.recipe import Recipe
from blocklm.errors import UserError
from blocklm.files import check_spelling, replace_file
from blocklm.runs.manifest import read_manifest
from blocklm.runs.summary import summarise


def claim(recipe: Recipe, head: str) -> str | None:
    """Take the recipe's `output_dir` for this run, or return the summary of the run if it is complete there.

    A directory in which nothing was trained yet is free for any recipe.

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
    if not _holds_work(recipe.output_dir):
        # A manifest whose work was deleted would claim a training whose result is gone.
        (recipe.output_dir / "manifest.json").unlink(missing_ok=True)
    replace_file(path, yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True))
    return None


def _holds_work(run_dir: Path) -> bool:
    return any(run_dir.glob("checkpoint-*")) or any(run_dir.glob("*.safetensors"))


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


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is whole; one torn by a kill or a full disk is passed over.

    The trainer writes `trainer_state.json` last, so a checkpoint that has it has everything.
    """
    found = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)
