"""Compares a run with controls: adapters of other repositories, which cannot know this one.

What a control gains comes from the form of the questions and from code in general. A single control may be weak, so the
own adapter is ranked among several and compared with their mean, beside what each gains on its own repository.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blocklm.errors import UserError
from blocklm.evaluation.exam.compare import Arm, change_between
from blocklm.models.adapter import check_same_model, previous_arm
from blocklm.models.loaded import LoadedModel
from blocklm.runs.completed import CompletedRun, open_run
from blocklm.runs.fingerprint import weights_of


@dataclass(frozen=True)
class Control:
    """A run of another repository on the same base.

    Attributes:
        name: name of its arm.
        run: the run.
        factor: what its adapter is multiplied by, so that it acts as strongly as the own one.
    """

    name: str
    run: CompletedRun
    factor: float


def open_controls(run: CompletedRun, paths: Sequence[Path]) -> list[Control]:
    """Open the runs that a run is compared with.

    Args:
        run: the run that is examined.
        paths: run directories of the controls.

    Raises:
        UserError: a control is not complete, has another base or adapter shape, or is named twice.
    """
    if twice := [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]:
        raise UserError(f"`--control` names {twice[0]} twice", "name each run once")
    runs = [open_run(path) for path in paths]
    for other in runs:
        try:
            check_same_model(run.source.config, other.source.config, other.path)
        except UserError as error:
            raise UserError(str(error), "name runs in `--control` that were trained with the same key") from None
    names = [str(other.manifest["repository"]["name"]) for other in runs]
    controls = []
    for number, (other, name) in enumerate(zip(runs, names, strict=True)):
        place = names[:number].count(name) + 1
        label = f"control:{name}" + (f"-{place}" if names.count(name) > 1 else "")
        controls.append(Control(label, other, _strength(run) / _strength(other)))
    return controls


def control_arms(tuned: LoadedModel, controls: Sequence[Control]) -> list[Arm]:
    """Make an arm of each control, with its adapter in place of the own one."""
    return [
        Arm(
            control.name,
            f"{weights_of(control.run.path)} x {control.factor:g}",
            partial(
                previous_arm,
                tuned,
                control.run.path,
                partial(control.run.source.tuned, control.run.path),
                control.factor,
            ),
        )
        for control in controls
    ]


def compare_with_controls(result: Mapping[str, Any], controls: Sequence[Control]) -> dict[str, Any]:
    """Rank the own adapter among the controls, and compare it with their mean.

    Args:
        result: the exam's result, with an arm of each control.
        controls: the controls, at least one.

    Returns:
        `rank`, the place of the own adapter and the number of adapters; `controls_mean`, with the mean over the
        controls of the bits for each question, which no single adapter needs; and `controls`, with the gain of each on
        its own repository, or None if that was not measured.
    """
    items = result["per_item"]
    commits = [item["commit"] for item in items]
    tuned = np.array([item["tuned_bits"] for item in items], dtype=np.float64)
    bits = np.array([[item[f"{control.name}_bits"] for item in items] for control in controls], dtype=np.float64)
    mean = bits.mean(axis=0)
    return {
        "rank": {"place": 1 + int((bits.sum(axis=1) < tuned.sum()).sum()), "of": len(controls) + 1},
        "controls_mean": {
            "mean_bits_per_byte": float(mean.sum() / result["added_bytes"]),
            "tuned_against_it": change_between(commits, mean, tuned),
        },
        "controls": [
            {
                "name": control.name,
                "path": str(control.run.path),
                "factor": control.factor,
                "own_gain": _own_gain(control.run.manifest),
            }
            for control in controls
        ],
    }


def _strength(run: CompletedRun) -> float:
    """Return the strength at which a run's adapter acts, as a factor on its trained scale; 1 without an adapter.

    The saved adapter tells it. After a rollback the manifest tells that of the rejected one.
    """
    saved = run.path / "adapter_config.json"
    if not saved.is_file():
        return 1.0
    return float(json.loads(saved.read_text(encoding="utf-8"))["lora_alpha"] / run.source.config.lora_alpha)


def _own_gain(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the gain that a run's exam measured; None without one, and after a rollback, where it was another's."""
    exam = manifest["exam"]
    if exam is None or manifest["training"].get("rolled_back"):
        return None
    return {key: exam[key] for key in ("delta_percent", "ci95", "verdict")}
