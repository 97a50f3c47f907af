"""Plans a run before anything is loaded, proves the plan before step 0, and shortens it where it does not fit."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel
from transformers.training_args import OptimizerNames
from trl import SFTConfig, SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.errors import UserError
from blocklm.models.distributed import is_sharded
from blocklm.models.likelihood import BATCH_TOKENS
from blocklm.models.source import ModelSource
from blocklm.runs.checkpoints import latest_checkpoint
from blocklm.training.data_order import TrainingOrder
from blocklm.training.packing import MIN_UTILISATION, keeps_documents_apart
from blocklm.training.planning.device import device_name, this_device
from blocklm.training.planning.measurement import calibration_in, measurements_of
from blocklm.training.planning.micro_batch import Steps, corrected, make_plan
from blocklm.training.planning.preflight import DoesNotFit, fit
from blocklm.training.planning.remedies import shorter_lengths
from blocklm.training.planning.run_plan import Packing, RunPlan

logger = logging.getLogger(__name__)

# AdamW of bitsandbytes: on a CPU it saves no memory and is only less exact.
GPU_ADAMW = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def plan_run(recipe: Recipe, source: ModelSource, args: SFTConfig, earlier: Mapping[str, Any] | None) -> RunPlan:
    """Choose the sizes that fit the device; a run that resumes keeps its plan.

    Args:
        recipe: the run's recipe.
        source: the base model.
        args: the trainer's arguments as the recipe gives them.
        earlier: the manifest's `plan` from an earlier start in the same run directory; None at the first start.

    Raises:
        UserError: not even one short row fits.
    """
    if earlier is not None and latest_checkpoint(recipe.output_dir) is not None:
        return RunPlan.from_entry(earlier)
    source.check_length(args.max_length)
    plan = _recipe_plan(args, source) if is_sharded() else _plan_for_device(recipe, args, source)
    if (optimizer := suitable_optimizer(args)) != args.optim:
        why = f"optim {optimizer.value} instead of {args.optim.value}, which saves memory on a GPU only"
        plan = replace(plan, reasons=(*plan.reasons, why))
    if args.use_cpu and recipe.training.get("activation_offloading"):
        why = "no activation_offloading: without a GPU activations are in the machine's memory anyway"
        plan = replace(plan, reasons=(*plan.reasons, why))
    if args.process_index == 0:
        for reason in plan.reasons:
            logger.info(reason)
    return plan


def suitable_optimizer(args: SFTConfig) -> OptimizerNames:
    """Return the recipe's optimizer, or plain AdamW if it is AdamW of bitsandbytes and there is no GPU."""
    return OptimizerNames.ADAMW_TORCH if args.use_cpu and args.optim in GPU_ADAMW else OptimizerNames(args.optim)


def samples_read(args: SFTConfig, processes: PartialState, samples: int) -> int:
    """Estimate how many samples a run reads.

    Args:
        args: the trainer's arguments as the recipe gives them.
        processes: the processes that share the work.
        samples: number of samples in an epoch.
    """
    if args.max_steps > 0:
        per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
        return int(args.max_steps * per_step * processes.num_processes)
    return int(args.num_train_epochs * samples)


def decide_packing(plan: RunPlan, recipe: Recipe, base: PreTrainedModel) -> RunPlan:
    """Decide on `packing: auto` by testing the model; `turn_packing_off` may revise it once the samples are encoded."""
    if recipe.training.get("packing") != "auto":
        return plan
    apart = keeps_documents_apart(base)
    why = "the model keeps documents apart" if apart else "documents in one row would see each other"
    return replace(plan, packing=_packing(apart, why, recipe))


def turn_packing_off(plan: RunPlan, recipe: Recipe, utilisation: float | None) -> RunPlan | None:
    """Turn packing off if the packed rows would be too empty; return None if nothing changes.

    Args:
        plan: the plan from `decide_packing`.
        recipe: the run's recipe.
        utilisation: share of the packed rows that samples fill, 0 to 1; None if nothing is packed.
    """
    if plan.packing is None or not plan.packing.packing or utilisation is None or utilisation >= MIN_UTILISATION:
        return None
    why = f"packed rows would be {100 * utilisation:.0f} % full"
    return replace(plan, packing=_packing(False, why, recipe))


def with_steps(plan: RunPlan, order: TrainingOrder, args: SFTConfig, processes: int) -> RunPlan:
    """Put the number of epochs and steps into the plan.

    Args:
        plan: the run's plan.
        order: the training rows in their order.
        args: batch, accumulation, and `max_steps` if the recipe gives it.
        processes: number of processes that share the work.
    """
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    steps = args.max_steps if args.max_steps > 0 else ceil(len(order.order) / per_step)
    return replace(plan, epochs=round(len(order.order) / order.epoch_size, 4), steps=steps)


def prove_plan(plan: RunPlan, trainer: SFTTrainer, examined: bool) -> RunPlan:
    """Run the largest steps once; return the plan with the micro-batch that fits.

    A model that FSDP or DeepSpeed will split is not split yet, so nothing can be proved with it.

    Args:
        plan: the run's plan.
        trainer: a trainer before its first step; its micro-batch is reduced until it fits.
        examined: whether an exam follows, whose batches must fit too.

    Raises:
        DoesNotFit: not even one row fits; `shorter_plan` gives the next plan to try.
    """
    if is_sharded():
        return plan
    exam_tokens = max(BATCH_TOKENS, plan.max_length) if examined else 0
    changed = fit(trainer, plan.memory["optimizer"] if plan.memory else 0, exam_tokens)
    micro, accumulation = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    return replace(plan, micro_batch=micro, gradient_accumulation=accumulation, reasons=(*plan.reasons, *changed))


def shorter_plan(plan: RunPlan, error: DoesNotFit, recipe: Recipe) -> RunPlan:
    """Return the same plan with activations in the machine's memory, or with shorter rows if it has that already.

    Raises:
        UserError: no shorter length is left to try, or the run resumes and must keep its length.
    """
    if torch.cuda.is_available() and not (plan.activation_offloading or recipe.training.get("activation_offloading")):
        logger.warning("activations wait in the machine's memory: %s", error)
        return replace(plan, activation_offloading=True, reasons=(*plan.reasons, f"activation_offloading: {error}"))
    length = next(shorter_lengths(plan.max_length), None)
    if length is None or latest_checkpoint(recipe.output_dir) is not None:
        remedy = f"free some memory, or set `max_length` below {plan.max_length} in the recipe"
        raise UserError(str(error), remedy) from error
    logger.warning("length %d instead of %d: %s", length, plan.max_length, error)
    return replace(plan, max_length=length, reasons=(*plan.reasons, f"length {length}: {error}"))


def _packing(packing: bool, why: str, recipe: Recipe) -> Packing:
    strategy = recipe.training.get("train_sampling_strategy")
    sampling = strategy or ("random" if packing else "group_by_length")
    return Packing(packing, sampling, why)


def _plan_for_device(recipe: Recipe, args: SFTConfig, source: ModelSource) -> RunPlan:
    """Plan for this device; take the recipe's sizes if the architecture cannot be planned."""
    keys, precision, architecture = source.config, source.precision, source.architecture()
    calibration = calibration_in(measurements_of(recipe, architecture, precision, device_name()))
    device = this_device(calibration)
    device = replace(device, budget=min(gather_object([device.budget])))  # all processes must choose the same
    suitable = copy.copy(args)
    suitable.optim = suitable_optimizer(args)
    steps = Steps(architecture, keys, suitable, precision, device.gpu, source.trust_remote_code)
    steps = steps.calibrated(calibration)
    try:
        plan = corrected(make_plan(steps, suitable, device), calibration)
    except RuntimeError as error:  # an architecture whose steps depend on the values of its tensors
        message = " ".join(str(error).split())[:200]
        return _recipe_plan(args, source, f"this architecture cannot be planned ({message})")
    return RunPlan.from_entry(plan.entry() | {"precision": precision.entry()})


def _recipe_plan(
    args: SFTConfig, source: ModelSource, why: str = "FSDP and DeepSpeed split what is planned for one device"
) -> RunPlan:
    """Take the recipe's sizes, for a reason given as a clause."""
    return RunPlan(
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.max_length,
        (f"as the recipe says: {why}",),
        source.precision.entry(),
    )
