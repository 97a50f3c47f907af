"""Runs the exam of the main job: chooses the adapter's scale, compares all arms, decides whether a top-up is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel

from blocklm.evaluation.exam.adapter_scale import ITEMS, choose_strength
from blocklm.evaluation.exam.compare import Arm
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.evaluation.execution.check import check_edits
from blocklm.files import write_json
from blocklm.models.adapter import base_arm, previous_arm
from blocklm.runs.fingerprint import weights_of

SINGLE = {"per_item", "per_problem"}


@dataclass(frozen=True)
class ExamOutcome:
    """The result of an exam.

    Attributes:
        summary: the manifest's `exam`: the result without its single items, which are in `exam.json`.
        rolled_back: whether the previous run, which this one continues, was better.
    """

    summary: Mapping[str, Any]
    rolled_back: bool


def choose_strength_of(setup: ExamSetup, model: PreTrainedModel) -> dict[str, Any] | None:
    """Choose the adapter's scale on validation samples; None without an adapter or if the recipe offers only 1.0."""
    scales = setup.recipe.exam.adapter_scales
    if not isinstance(model, PeftModel) or scales == [1.0]:
        return None
    return choose_strength(setup.loaded(model), setup.questions("validation", ITEMS), scales)


def examine(setup: ExamSetup, model: PreTrainedModel, previous: Path | None) -> ExamOutcome:
    """Run the exam, decide whether a top-up is kept, and write `exam.json`.

    Args:
        setup: questions, arms and how models are run.
        model: the trained model.
        previous: directory of the run that this one continues; None if it continues none.
    """
    loaded, others = setup.loaded(model), []
    if previous is not None:
        opened = partial(previous_arm, loaded, previous, partial(setup.source.tuned, previous))
        others.append(Arm("previous", weights_of(previous), opened))
    base = partial(base_arm, loaded, setup.source.base)
    result = setup.run(loaded.opened, base, others) | check_edits(setup, loaded.opened, base)
    write_result(setup.recipe.output_dir / "exam.json", result)
    summary = {key: value for key, value in result.items() if key not in SINGLE}
    if "check" in summary:
        summary["check"] = {key: value for key, value in summary["check"].items() if key not in SINGLE}
    worse = "against_previous" in summary and summary["against_previous"]["verdict"] == "worse"
    return ExamOutcome(summary, worse)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result of `ExamSetup.run` as JSON, and its problems with their answers as Parquet beside it."""
    write_json(path, {key: value for key, value in result.items() if key != "per_problem"})
    if result["per_problem"]:
        Dataset.from_list(result["per_problem"]).to_parquet(path.with_name(f"{path.stem}-tasks.parquet"))
