"""A measurement of a recipe's largest steps on a device: how it is kept, and how it corrects the plans of other shapes.

It is kept by device and by all that shapes a step but its batch and length, in `corpus_dir/.measurements`.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from transformers import PretrainedConfig

from blocklm import cache
from blocklm.config.recipe import Recipe
from blocklm.files import replace_file
from blocklm.models.precision import Precision
from blocklm.training.planning.step_memory import StepMemory

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
SOURCES = ("training.planning.fake_model", "training.planning.step_memory", "training.measuring.measure")
# What decides the tensors of a step beside the recipe's keys of the model, whose name may be a folder or a hub's name.
SIZES = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip
TRAINING = (
    "optim", "gradient_checkpointing", "activation_offloading", "loss_type", "label_smoothing_factor", "packing",
    "use_liger_kernel",
)  # fmt: skip
NAMES = ("model_name_or_path", "model_revision")


@dataclass(frozen=True, slots=True)
class Speeds:
    """Times of a device's steps.

    Attributes:
        micro_seconds: seconds of the forward and backward pass of one micro-batch.
        optimizer_seconds: seconds of one step of the optimizer.
        read: tokens a second that are scored without being learned, in the exam's batches.
        prompt: tokens a second of prompts, before the first token of an answer.
        written: tokens a second of answers, all answers of a batch together.
        watts: mean power of the GPU while it trains; None where NVML does not tell.
    """

    micro_seconds: float
    optimizer_seconds: float
    read: float
    prompt: float
    written: float
    watts: float | None = None

    def step_seconds(self, accumulation: int) -> float:
        """Seconds of an optimizer step of so many micro-batches."""
        return accumulation * self.micro_seconds + self.optimizer_seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """The largest steps of a recipe, measured.

    Attributes:
        device: name of the device.
        kernel: the attention kernel that was asserted; None if PyTorch chose.
        dtype: dtype of the matrix products.
        micro_batch: rows of a train step.
        accumulation: micro-batches of an optimizer step in the run.
        length: tokens of a row.
        packed: whether the rows held several documents each.
        planned: planned bytes of a train step by part.
        measured: measured bytes of a train step by part.
        evaluation: peak of an evaluation step in bytes, as `answers` with all that a training holds.
        exam: peak of an exam batch in bytes.
        answers: peak of a batch of answers in bytes.
        reserved: bytes that the allocator took from the device for all of these; None on a CPU.
        context: bytes that the driver and its kernels took beside them; None on a CPU.
        speeds: times of the steps.
        limit: bytes at which the allocator was capped, or with which the peak was compared; None without a limit.
        day: day of the measurement, in ISO 8601.
    """

    device: str
    kernel: str | None
    dtype: str
    micro_batch: int
    accumulation: int
    length: int
    packed: bool
    planned: StepMemory
    measured: StepMemory
    evaluation: int
    exam: int
    answers: int
    reserved: int | None
    context: int | None
    speeds: Speeds
    limit: int | None
    day: str

    @property
    def peak(self) -> int:
        """The most bytes of tensors in any of the steps."""
        return max(self.measured.total, self.evaluation, self.exam, self.answers)

    @property
    def step_seconds(self) -> float:
        """Seconds of one step of the run."""
        return self.speeds.step_seconds(self.accumulation)

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of the run's training, where all rows are full."""
        return self.accumulation * self.micro_batch * self.length / self.step_seconds

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Read a measurement from what `asdict` made of it."""
        parts = {name: StepMemory(**entry[name]) for name in ("planned", "measured")}
        return cls(**{**entry, **parts, "speeds": Speeds(**entry["speeds"])})


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one measured shape says about the plans of others.

    Attributes:
        ratios: measured over planned bytes, by part of a step.
        gaps: share of the allocator's memory that lay between tensors; None where it is unknown.
        context: bytes of the driver and its kernels; None where they are unknown.
        shape: the measured shape, for messages.
    """

    ratios: Mapping[str, float]
    gaps: float | None
    context: int | None
    shape: str

    @classmethod
    def of(cls, measurement: Measurement) -> Self:
        """Compare what was planned with what was measured."""
        planned, measured = asdict(measurement.planned), asdict(measurement.measured)
        reserved = measurement.reserved
        return cls(
            ratios={part: measured[part] / size if size else 1.0 for part, size in planned.items()},
            gaps=None if not reserved else max(0.0, 1 - measurement.peak / reserved),
            context=measurement.context,
            shape=f"{measurement.micro_batch} x {measurement.length} tokens, {measurement.day}",
        )

    def applied_to(self, memory: StepMemory) -> StepMemory:
        """Correct the planned bytes of a step by part."""
        return StepMemory(**{part: round(size * self.ratios[part]) for part, size in asdict(memory).items()})


def measurements_of(recipe: Recipe, config: PretrainedConfig, precision: Precision, device: str) -> Path:
    """Name the file for the measurements of a recipe on a device.

    Args:
        recipe: the run's recipe.
        config: the model's architecture.
        precision: precision on the device.
        device: the device's name.
    """
    text = config.get_text_config()
    key = cache.data_key(
        *SOURCES,
        device=device,
        precision=str(precision.dtype),
        sizes={name: getattr(text, name, None) for name in SIZES},
        model={name: value for name, value in recipe.model.items() if name not in NAMES},
        training={name: recipe.training.get(name) for name in TRAINING},
        versions=[version(name) for name in LIBRARIES],
    )
    return Path(recipe.mining.corpus_dir) / ".measurements" / f"{key}.json"


def keep(path: Path, measurement: Measurement) -> None:
    """Add a measurement to the file of its recipe and device; an older one of the same shape is replaced."""
    kept = {(one.micro_batch, one.length): one for one in read_measurements(path)}
    kept[measurement.micro_batch, measurement.length] = measurement
    replace_file(path, json.dumps([asdict(one) for one in kept.values()], indent=2) + "\n")


def read_measurements(path: Path) -> list[Measurement]:
    """Read the measurements in a file, those of most tokens first; none if it is absent or damaged."""
    try:
        found = [Measurement.from_entry(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (*cache.DAMAGED, TypeError) as error:
        logger.warning("the measurements in %s are damaged (%s): they are not used", path, error)
        return []
    return sorted(found, key=lambda one: -one.micro_batch * one.length)


def calibration_in(path: Path) -> Calibration | None:
    """Read what the largest measured shape in a file says about others; None if nothing was measured."""
    found = read_measurements(path)
    return Calibration.of(found[0]) if found else None
