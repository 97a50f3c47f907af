"""Names the models that are served: by their name, clients choose the form of their prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocklm.corpus.places.completion import COMPLETION

# Zed and Continue know these names. Prompts in any of their forms are read, so the name need not fit the base.
KNOWN = {
    "starcoder2": "starcoder2",
    "starcoder": "starcoder",
    "qwen-coder": "qwen2.5-coder",
    "deepseek-coder": "deepseek-coder",
    "code-llama": "codellama",
}
OTHER = "blocklm"


def model_names(runs: Sequence[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Name runs after the form of their prompts and their repository, such as `qwen2.5-coder:project`.

    Where several would have the same name, that of the run's folder is added.

    Args:
        runs: folder and manifest of each run.
    """
    names = [_name(manifest) for _, manifest in runs]
    folders = [
        name if names.count(name) == 1 else f"{name}-{path.resolve().name}"
        for name, (path, _) in zip(names, runs, strict=True)
    ]
    return [name if folders.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(folders, 1)]


def _name(manifest: dict[str, Any]) -> str:
    prompts = manifest["corpus"]["prompts"]
    family = prompts.get(COMPLETION) or next(iter(prompts.values()))
    return f"{KNOWN.get(family, OTHER)}:{manifest['repository']['sources'][0]['name']}"
