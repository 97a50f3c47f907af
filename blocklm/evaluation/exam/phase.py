"""The exam phase of a run: how strongly the adapter acts, then the questions, and what follows from the answers."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel

from blocklm.evaluation.exam.adapter_scale import ITEMS, choose_strength, set_strength
from blocklm.evaluation.exam.compare import Arm
from blocklm.evaluation.exam.setup import Sitting
from blocklm.evaluation.execution.check import check_edits
from blocklm.files import write_json
from blocklm.models.adapter import base_arm
from blocklm.runs.fingerprint import weights_of
from blocklm.runs.manifest import Manifest

SINGLE = {"per_item", "per_problem"}
Previous = Callable[[], AbstractContextManager[PreTrainedModel]]


def examine(
    manifest: Manifest,
    sitting: Sitting,
    model: PreTrainedModel,
    load_base: Callable[[], PreTrainedModel],
    previous: Previous | None,
) -> None:
    """Sit the exam, which decides whether a top-up stays; the single items go to `exam.json` alone.

    Args:
        manifest: gets `training.strength`, `training.rolled_back` and `exam`.
        sitting: the questions.
        model: what was trained.
        load_base: loads the model as it was before.
        previous: opens the model of the run that this one goes on from.
    """
    training = manifest.content["training"]
    if isinstance(model, PeftModel) and sitting.recipe.exam.adapter_scales != [1.0]:
        training |= {"strength": _strengthened(manifest, sitting, model)}
    before = sitting.recipe.run.continue_from
    others = [Arm("previous", weights_of(Path(str(before)).expanduser()), previous)] if previous is not None else []
    tuned, base = partial(nullcontext, model), partial(base_arm, model, load_base)
    result = sitting.sit(tuned, base, others) | check_edits(sitting, tuned, base)
    write_result(sitting.recipe.output_dir / "exam.json", result)
    exam = {key: value for key, value in result.items() if key not in SINGLE}
    if "check" in exam:
        exam["check"] = {key: value for key, value in exam["check"].items() if key not in SINGLE}
    worse = "against_previous" in exam and exam["against_previous"]["verdict"] == "worse"
    manifest.update(exam=exam, training=training | {"rolled_back": worse})


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write what `Sitting.sit` returned: as JSON, and problems with their answers as Parquet beside it."""
    write_json(path, {key: value for key, value in result.items() if key != "per_problem"})
    if result["per_problem"]:
        Dataset.from_list(result["per_problem"]).to_parquet(path.with_name(f"{path.stem}-tasks.parquet"))


def _strengthened(manifest: Manifest, sitting: Sitting, model: PeftModel) -> dict[str, Any]:
    """Let the adapter act as strongly as validation prefers; a choice that was made before a kill stands."""
    training = manifest.content["training"]
    found: dict[str, Any] | None = training.get("strength")
    if found is None:
        items, scales = sitting.questions("validation", ITEMS), sitting.recipe.exam.adapter_scales
        found = choose_strength(model, items, scales, sitting.pad_token_id, sitting.dtype)
        manifest.update(
            training=training | {"strength": found}
        )  # first: after a kill nobody chooses of what was chosen
    set_strength(model, sitting.recipe.output_dir, sitting.config.lora_alpha * found["chosen"])
    return found
