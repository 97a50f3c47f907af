"""Recipes of known keys with odd values, by seed; and one run of each, to its end or to two lines.

python -m tests.support.odd_recipes MODEL REPOSITORY FOLDER COUNT    # the full fuzz: 200 take some ten minutes
"""

import dataclasses
import random
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from blocklm.config.library_schema import model_schema, training_schema
from blocklm.config.recipe import OWN, parse_recipe
from blocklm.errors import UserError

SANE: dict[str, Any] = {
    "use_peft": True, "lora_r": 2, "max_length": 256, "max_steps": 1, "learning_rate": 1e-3, "bf16": False,
    "per_device_train_batch_size": 2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
    "logging_steps": 1, "max_train_samples": 8, "max_validation_samples": 2, "exam": False, "behavioral_items": 0,
    "hardware_interval": 0, "report_to": "none", "survival": False, "test_commits": 5, "views": {"edit": 1},
}  # fmt: skip
# Where files go, what leaves the machine, minutes of compiling, code of others, and what only a launcher may say.
LEFT_ALONE = {
    "output_dir", "corpus_dir", "repo", "model_name_or_path", "push_to_hub", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "trust_remote_code", "local_rank", "full_determinism", "check_command", "save", "embedding_model",
    "qdrant_url", "ddp_backend", "enable_jit_checkpoint", "continue_from",
}  # fmt: skip
NUMBERS = [-1, 0, 1, 2, 3, 64, 0.5, -0.5, 1e-30, float("nan"), float("inf"), None, "many", "010", "1:30"]
TEXTS = [
    "",
    "no",
    "1.10",
    "0755",
    "none",
    "auto",
    "all-linear",
    "q_proj",
    "lm_head",
    "eval_loss",
    "caf\u00e9\u2028",
    "a b",
    None,
    7,
]


def keys() -> dict[str, Any]:
    """Return the types of the tried keys by name."""
    kinds = (*OWN.values(), model_schema("model"), training_schema("training"))
    found = {field.name: field.type for kind in kinds for field in dataclasses.fields(kind)}
    return {name: kind for name, kind in found.items() if name not in LEFT_ALONE and not name.startswith("hub_")}


def odd_recipes(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield recipes of a sane one and up to three odd keys."""
    chance, known = random.Random(seed), keys()
    for _ in range(count):
        odd = chance.sample(sorted(known), chance.choice((1, 1, 2, 3)))
        yield SANE | {name: _odd_value(known[name], chance) for name in odd}


def _odd_value(kind: Any, chance: random.Random) -> Any:
    words = str(kind)
    choices = [
        choice for part in (kind, *get_args(kind)) if "Literal" in str(get_origin(part)) for choice in get_args(part)
    ]
    if choices:
        return chance.choice([*choices, *choices, chance.choice(TEXTS)])
    if "bool" in words:
        return chance.choice([True, False, True, False, "yes", "perhaps", None])
    if "list" in words:
        some = NUMBERS if "float" in words else TEXTS
        return chance.choice(
            [[chance.choice(some)], [chance.choice(some), chance.choice(some)], [], chance.choice(some)]
        )
    if "dict" in words:
        return chance.choice(
            [{}, {"edit": 1}, {"a": {"share": 1}}, {"use_reentrant": False}, "edit", None, {"x": None}]
        )
    return chance.choice(NUMBERS if "int" in words or "float" in words else TEXTS)


def outcome(recipe: dict[str, Any], place: Path) -> str:
    """Run a recipe in `place`: `trained`, `refused: …` in two lines, or the end of a traceback."""
    from blocklm.git.repository import joint_head, open_repositories
    from blocklm.interrupts import Interrupts
    from blocklm.pipeline import run_job
    from blocklm.runs.directory import claim_run_directory

    place.mkdir(parents=True)
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True))
    try:
        parsed = parse_recipe([str(path)])
        repositories = open_repositories(parsed.mining)
        claim_run_directory(parsed, joint_head(repositories))
        run_job(parsed, repositories, Interrupts())
    except UserError as error:
        return f"refused: {error}\n  {error.hint}"
    except Exception:
        return traceback.format_exc()
    return "trained"


def main(model: str, repository: str, folder: str, count: str) -> None:
    """Run all recipes, and print which were refused and which failed."""
    ends: Counter[str] = Counter()
    for at, recipe in enumerate(odd_recipes(2026, int(count))):
        place = Path(folder) / f"{at}"
        corpus, run = str(Path(folder) / "corpora"), str(place / "run")
        where = {"model_name_or_path": model, "repo": repository, "corpus_dir": corpus, "output_dir": run}
        result = outcome(recipe | where, place)
        odd = {key: value for key, value in recipe.items() if SANE.get(key, ...) != value}
        ends[result.split(":")[0] if not result.startswith("Traceback") else "traceback"] += 1
        print(f"{at} {odd}\n  {result}", flush=True)
    print(dict(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
