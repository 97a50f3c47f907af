"""A recipe planned for a device, as `scripts/plan.py` shows and measures it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import PretrainedConfig
from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.models.precision import Precision
from blocklm.models.pretrained import check_positions
from blocklm.models.source import ModelSource
from blocklm.training.measuring.measure import Trial
from blocklm.training.planning.device import Device, device_name, this_device
from blocklm.training.planning.known_models import known_config
from blocklm.training.planning.measurement import Calibration, Measurement, measurements_of, read_measurements
from blocklm.training.planning.micro_batch import Plan, Steps, corrected, make_plan
from blocklm.training.planning.planner import suitable_optimizer
from blocklm.training.train import sft_config


@dataclass(frozen=True)
class Planned:
    """A plan and what it was made from.

    Attributes:
        recipe: the run's recipe.
        source: keys and precision of the base model.
        config: the model's architecture.
        args: the trainer's arguments as the recipe gives them.
        steps: the memory of the model's steps on the device, corrected by what was measured on it.
        plan: the sizes that fit.
        device: the device.
        limit: bytes to which tensors are limited; None without a limit.
        path: file of the measurements of this recipe on this machine's device.
        measurement: the largest of these; None if there is none, or if the plan is for another device.
    """

    recipe: Recipe
    source: ModelSource
    config: PretrainedConfig
    args: SFTConfig
    steps: Steps
    plan: Plan
    device: Device
    limit: int | None
    path: Path
    measurement: Measurement | None

    @classmethod
    def of(cls, recipe: Recipe, size: str | None, other: Device | None, limit: int | None) -> Self:
        """Plan a recipe.

        Args:
            recipe: the run's recipe.
            size: name of a well-known model whose sizes are taken; None to read the recipe's model's config.
            other: the device to plan for; None for this machine's.
            limit: bytes to which tensors are limited; None without a limit.

        Raises:
            UserError: the model is unknown, or not even one short row fits.
        """
        source = ModelSource.from_keys(recipe.model, recipe.training)
        config = source.architecture() if size is None else known_config(size)
        args, precision = sft_config(recipe, source.precision), source.precision
        check_positions(source.name, config, args.max_length)
        path = measurements_of(recipe, config, precision, device_name())
        kept = read_measurements(path) if other is None else []
        calibration = Calibration.of(kept[0]) if kept else None
        if other is None:
            args.optim = suitable_optimizer(args)
        else:
            precision = Precision(True, False, torch.float16, "any GPU computes in 16 bit")
            args.activation_offloading = bool(recipe.training.get("activation_offloading"))
        device = other or this_device(calibration, limit)
        steps = Steps(config, source.config, args, precision, device.gpu, source.trust_remote_code)
        steps = steps.calibrated(calibration)
        plan = corrected(make_plan(steps, args, device), calibration)
        return cls(recipe, source, config, args, steps, plan, device, limit, path, kept[0] if kept else None)

    def trial(self, kernel: str | None) -> Trial:
        """Return what to measure of this plan: its sizes, and the memory that was planned without a correction.

        Args:
            kernel: the attention kernel that must run; None to leave it to PyTorch.
        """
        return Trial(self.recipe, self.config, self.source, self.steps.uncorrected(self.plan), kernel, self.limit)
