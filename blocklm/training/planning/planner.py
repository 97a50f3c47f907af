"""A run fits its device: planned before anything is loaded, proved before step 0, made smaller where it must be."""

import logging
from dataclasses import replace
from math import ceil
from typing import Any

from accelerate.utils import gather_object
from transformers import PreTrainedModel
from transformers.training_args import OptimizerNames
from trl import ModelConfig, SFTConfig, SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.errors import UserError
from blocklm.models.distributed import is_sharded
from blocklm.models.likelihood import BATCH_TOKENS
from blocklm.models.loading import check_length, load_config
from blocklm.models.precision import Precision
from blocklm.runs.directory import latest_checkpoint
from blocklm.runs.manifest import Manifest
from blocklm.training.packing import MIN_UTILISATION, keeps_documents_apart
from blocklm.training.planning.device import this_device
from blocklm.training.planning.plan import Steps, make_plan, shorter_lengths
from blocklm.training.planning.preflight import DoesNotFit, fit

logger = logging.getLogger(__name__)

# AdamW by bitsandbytes, which on a CPU pages nothing and would only be less exact.
GPU_ADAMW = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


class Fitting:
    """The plan of one run; it lives in the manifest, and the trainer's arguments follow it.

    Args:
        recipe: the run.
        keys: its model.
        args: the trainer's arguments; micro-batch, accumulation, length and a GPU's optimizer are changed.
        precision: of the matrix products.
        manifest: where the plan is written.
    """

    def __init__(
        self, recipe: Recipe, keys: ModelConfig, args: SFTConfig, precision: Precision, manifest: Manifest
    ) -> None:
        self.recipe, self.keys, self.args = recipe, keys, args
        self.precision, self.manifest = precision, manifest
        self._auto = recipe.training.get("packing") == "auto"
        self._resumes = latest_checkpoint(recipe.output_dir) is not None

    def plan(self, earlier: dict[str, Any] | None) -> None:
        """Choose what fits the device; a run that resumes keeps the plan of its `earlier` manifest.

        Raises:
            UserError: not one short row fits.
        """
        known = (earlier or {}).get("plan") if self._resumes else None
        changed = self._suit_optimizer()
        self._adopt(known or self._planned(changed))

    def _suit_optimizer(self) -> list[str]:
        asked = self.args.optim
        if not self.args.use_cpu or asked not in GPU_ADAMW:
            return []
        self.args.optim = OptimizerNames.ADAMW_TORCH
        return [f"optim adamw_torch instead of {asked.value}, which saves the memory of a GPU: there is none"]

    def pack(self, base: PreTrainedModel) -> None:
        """Decide on `packing: auto` by what the model does; `unpack` may take it back when the samples are known."""
        if self._auto:
            self.args.packing = keeps_documents_apart(base)
            why = (
                "the model keeps documents apart" if self.args.packing else "documents in one row would see each other"
            )
            self._say_packing(why)

    def unpack(self, utilisation: float) -> bool:
        """Take packing back where rows would not become full enough; True if it was."""
        if not (self._auto and self.args.packing and utilisation < MIN_UTILISATION):
            return False
        self.args.packing = False
        self._say_packing(f"packed rows would be {100 * utilisation:.0f} % full")
        return True

    def _say_packing(self, why: str) -> None:
        if not self.args.packing and "train_sampling_strategy" not in self.recipe.training:
            self.args.train_sampling_strategy = "group_by_length"
        choice = {"packing": self.args.packing, "sampling": self.args.train_sampling_strategy, "reason": why}
        self.manifest.update(plan=self.manifest.content["plan"] | {"packing": choice})

    def reads(self, epochs: float, rows: int, processes: int) -> None:
        """Put into the plan how long the training will be."""
        per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * processes
        steps = self.args.max_steps if self.args.max_steps > 0 else ceil(rows / per_step)
        self.manifest.update(plan=self.manifest.content["plan"] | {"epochs": round(epochs, 4), "steps": steps})

    def holds(self, trainer: SFTTrainer) -> bool:
        """Run the largest steps once; False if the length was made shorter, and all must be prepared anew.

        A model that is to be split is still whole here, and nothing can be proved with it.

        Raises:
            UserError: nothing shorter is left to try.
        """
        if is_sharded():
            return True
        plan = dict(self.manifest.content["plan"])
        asked_tokens = max(BATCH_TOKENS, self.args.max_length) if self.recipe.exam.exam else 0
        state = plan["memory"]["optimizer"] if plan["memory"] else 0
        try:
            changed = fit(trainer, state, asked_tokens)
        except DoesNotFit as error:
            shorter = next(shorter_lengths(self.args.max_length), None)
            if shorter is None or self._resumes:
                remedy = f"free some memory, or set `max_length` below {self.args.max_length} in the recipe"
                raise UserError(str(error), remedy) from error
            logger.warning("length %d instead of %d: %s", shorter, self.args.max_length, error)
            self._adopt(plan | {"max_length": shorter, "reasons": [*plan["reasons"], f"length {shorter}: {error}"]})
            return False
        micro, accumulation = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        chosen = {"micro_batch": micro, "gradient_accumulation": accumulation}
        self._adopt(plan | chosen | {"reasons": [*plan["reasons"], *changed]})
        return True

    def _planned(self, changed: list[str]) -> dict[str, Any]:
        trust = bool(self.recipe.training.get("trust_remote_code", False))
        check_length(self.keys, self.args.max_length, trust)
        if is_sharded():
            plan = self._unplanned("FSDP and DeepSpeed split what is planned for one device")
        else:
            device = this_device()
            device = replace(device, budget=min(gather_object([device.budget])))  # all processes must choose alike
            steps = Steps(load_config(self.keys, trust), self.keys, self.args, self.precision, device.gpu, trust)
            try:
                plan = make_plan(steps, self.args, device).entry()
            except RuntimeError as error:  # an architecture whose steps depend on the values of its tensors
                said = " ".join(str(error).split())[:200]
                plan = self._unplanned(f"this architecture cannot be planned ({said})")
        plan["reasons"] += changed
        if self.args.process_index == 0:
            for reason in plan["reasons"]:
                logger.info(reason)
        return plan | {"precision": self.precision.entry()}

    def _unplanned(self, why: str) -> dict[str, Any]:
        return {
            "micro_batch": self.args.per_device_train_batch_size,
            "gradient_accumulation": self.args.gradient_accumulation_steps,
            "max_length": self.args.max_length,
            "memory": None,
            "reasons": [f"as the recipe says: {why}"],
        }

    def _adopt(self, plan: dict[str, Any]) -> None:
        self.args.per_device_train_batch_size = plan["micro_batch"]
        self.args.gradient_accumulation_steps = plan["gradient_accumulation"]
        self.args.max_length = plan["max_length"]
        self.args.auto_find_batch_size = False  # transformers' own would begin again at step 0 and forget accumulation
        self.manifest.update(plan=plan)
