"""A run fits its device: planned before anything is loaded, proved before step 0, made smaller where it must be."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

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
from blocklm.runs.directory import latest_checkpoint
from blocklm.training.data_order import TrainingOrder
from blocklm.training.packing import MIN_UTILISATION, keeps_documents_apart
from blocklm.training.planning.device import this_device
from blocklm.training.planning.plan import Steps, make_plan, shorter_lengths
from blocklm.training.planning.preflight import DoesNotFit, fit
from blocklm.training.planning.run_plan import Packing, RunPlan

logger = logging.getLogger(__name__)

# AdamW by bitsandbytes, which on a CPU pages nothing and would only be less exact.
GPU_ADAMW = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def plan_run(recipe: Recipe, source: ModelSource, args: SFTConfig, earlier: Mapping[str, Any] | None) -> RunPlan:
    """Choose what fits the device; a run that resumes keeps its plan.

    Args:
        recipe: the run.
        source: its model.
        args: what the recipe asks of the trainer.
        earlier: the `plan` of an earlier start in the same run directory; None at the first.

    Raises:
        UserError: not one short row fits.
    """
    if earlier is not None and latest_checkpoint(recipe.output_dir) is not None:
        return RunPlan.from_entry(earlier)
    source.check_length(args.max_length)
    plan = _as_asked(args, source) if is_sharded() else _planned(args, source)
    if (optimizer := suitable_optimizer(args)) != args.optim:
        why = f"optim {optimizer.value} instead of {args.optim.value}, which saves the memory of a GPU: there is none"
        plan = replace(plan, reasons=(*plan.reasons, why))
    if args.process_index == 0:
        for reason in plan.reasons:
            logger.info(reason)
    return plan


def suitable_optimizer(args: SFTConfig) -> OptimizerNames:
    """The optimizer that the recipe asks for, or its like where that one needs a GPU and there is none."""
    return OptimizerNames.ADAMW_TORCH if args.use_cpu and args.optim in GPU_ADAMW else OptimizerNames(args.optim)


def samples_read(args: SFTConfig, processes: PartialState, samples: int) -> int:
    """About how many samples a run reads.

    Args:
        args: what the recipe asks of the trainer.
        processes: those that share the work.
        samples: number of samples in an epoch.
    """
    if args.max_steps > 0:
        per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
        return int(args.max_steps * per_step * processes.num_processes)
    return int(args.num_train_epochs * samples)


def decide_packing(plan: RunPlan, recipe: Recipe, base: PreTrainedModel) -> RunPlan:
    """Decide on `packing: auto` by what the model does; `unpack` may take it back when the samples are known."""
    if recipe.training.get("packing") != "auto":
        return plan
    apart = keeps_documents_apart(base)
    why = "the model keeps documents apart" if apart else "documents in one row would see each other"
    return replace(plan, packing=_packing(apart, why, recipe))


def unpack(plan: RunPlan, recipe: Recipe, utilisation: float | None) -> RunPlan | None:
    """Take packing back where rows would not become full enough; None if it stays as it is.

    Args:
        plan: with what `decide_packing` found.
        recipe: the run.
        utilisation: share of the packed rows that samples fill; None where nothing is packed.
    """
    if plan.packing is None or not plan.packing.packing or utilisation is None or utilisation >= MIN_UTILISATION:
        return None
    why = f"packed rows would be {100 * utilisation:.0f} % full"
    return replace(plan, packing=_packing(False, why, recipe))


def with_length(plan: RunPlan, order: TrainingOrder, args: SFTConfig, processes: int) -> RunPlan:
    """Put into the plan how long the training will be.

    Args:
        plan: of the run.
        order: what is read.
        args: batch and accumulation, and steps if the recipe says how many.
        processes: number of processes that share the work.
    """
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    steps = args.max_steps if args.max_steps > 0 else ceil(len(order.order) / per_step)
    return replace(plan, epochs=round(len(order.order) / order.epoch_size, 4), steps=steps)


def prove_plan(plan: RunPlan, trainer: SFTTrainer, examined: bool) -> RunPlan:
    """Run the largest steps once; returns the plan with the micro-batch that fits.

    A model that is to be split is still whole here, and nothing can be proved with it.

    Args:
        plan: of the run.
        trainer: ready to train; its micro-batch is made smaller where it must be.
        examined: whether an exam follows, whose batches must fit too.

    Raises:
        DoesNotFit: not one row fits: `shorter_plan` says how to go on.
    """
    if is_sharded():
        return plan
    exam_tokens = max(BATCH_TOKENS, plan.max_length) if examined else 0
    changed = fit(trainer, plan.memory["optimizer"] if plan.memory else 0, exam_tokens)
    micro, accumulation = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    return replace(plan, micro_batch=micro, gradient_accumulation=accumulation, reasons=(*plan.reasons, *changed))


def shorter_plan(plan: RunPlan, error: DoesNotFit, recipe: Recipe) -> RunPlan:
    """The same plan with shorter rows.

    Raises:
        UserError: nothing shorter is left to try, or the run resumes and must go on as it began.
    """
    length = next(shorter_lengths(plan.max_length), None)
    if length is None or latest_checkpoint(recipe.output_dir) is not None:
        remedy = f"free some memory, or set `max_length` below {plan.max_length} in the recipe"
        raise UserError(str(error), remedy) from error
    logger.warning("length %d instead of %d: %s", length, plan.max_length, error)
    return replace(plan, max_length=length, reasons=(*plan.reasons, f"length {length}: {error}"))


def _packing(packing: bool, why: str, recipe: Recipe) -> Packing:
    asked = recipe.training.get("train_sampling_strategy")
    sampling = asked or ("random" if packing else "group_by_length")
    return Packing(packing, sampling, why)


def _planned(args: SFTConfig, source: ModelSource) -> RunPlan:
    device = this_device()
    device = replace(device, budget=min(gather_object([device.budget])))  # all processes must choose alike
    ours = copy.copy(args)
    ours.optim = suitable_optimizer(args)
    keys, precision = source.config, source.precision
    steps = Steps(source.architecture(), keys, ours, precision, device.gpu, source.trust_remote_code)
    try:
        return RunPlan.from_entry(make_plan(steps, ours, device).entry() | {"precision": precision.entry()})
    except RuntimeError as error:  # an architecture whose steps depend on the values of its tensors
        said = " ".join(str(error).split())[:200]
        return _as_asked(args, source, f"this architecture cannot be planned ({said})")


def _as_asked(
    args: SFTConfig, source: ModelSource, why: str = "FSDP and DeepSpeed split what is planned for one device"
) -> RunPlan:
    return RunPlan(
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.max_length,
        (f"as the recipe says: {why}",),
        source.precision.entry(),
    )
