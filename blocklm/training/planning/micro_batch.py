"""Plans a run before anything is loaded: memory by part, and the largest micro-batch and length that fit the device.

The recipe's effective batch does not change: a smaller micro-batch gets more accumulation.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Self

from tqdm import tqdm
from transformers import PretrainedConfig
from trl import ModelConfig, SFTConfig

from blocklm.errors import UserError
from blocklm.formatting import gib
from blocklm.models.precision import Precision
from blocklm.models.pretrained import max_positions
from blocklm.models.quantization import keys_as_stored
from blocklm.training.planning.device import Device
from blocklm.training.planning.fake_model import fake_model
from blocklm.training.planning.measurement import Calibration
from blocklm.training.planning.remedies import line_to_change, shorter_lengths
from blocklm.training.planning.step_memory import StepKind, StepMemory, step_memory

COUNTED_DEPTHS = (2, 4)
OFFLOADED_DEPTHS = (6, 8)  # the last few saved tensors stay, which shallower models would not exceed
LENGTHS = (512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32)
OPTIMIZER_BYTES = (("8bit", 2), ("sgd", 0), ("adafactor", 0), ("lion", 4), ("", 8))  # of state per trained weight


@dataclass(frozen=True)
class Plan:
    """The chosen sizes, the memory they need and the reasons for them.

    `activation_offloading` is true if the plan, and not the recipe, moves activations to the machine's memory.
    """

    micro_batch: int
    gradient_accumulation: int
    max_length: int
    memory: StepMemory
    device: Device
    reasons: tuple[str, ...]
    activation_offloading: bool = False

    def entry(self) -> dict[str, Any]:
        """Return the manifest's `plan`."""
        return asdict(self) | {
            "memory": asdict(self.memory) | {"total": self.memory.total},
            "reasons": [*self.reasons],
        }


class Steps:
    """The memory of a model's training steps for any batch and length; each is counted once.

    Args:
        config: the model's architecture.
        keys: quantisation, adapter and attention.
        args: optimizer and checkpointing.
        precision: precision of the matrix products.
        gpu: whether the run is for a GPU.
        trust_remote_code: if true, the architecture's own code may run.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        keys: ModelConfig,
        args: SFTConfig,
        precision: Precision,
        gpu: bool,
        trust_remote_code: bool = False,
    ) -> None:
        self.keys, self.positions = keys_as_stored(keys, config), max_positions(config)
        self._args, self._dtype, self._gpu = args, precision.dtype, gpu
        self._offloads, self._calibration = bool(args.activation_offloading) and gpu, None
        self._layers: int = config.get_text_config().num_hidden_layers
        depths = OFFLOADED_DEPTHS if self._offloads else COUNTED_DEPTHS
        self._counted = (
            tuple(layers for layers in depths if layers < self._layers) if _has_equal_layers(config) else ()
        )

        @cache
        def shallow_model(layers: int) -> Any:
            shallow = copy.deepcopy(config)
            text = shallow.get_text_config()
            text.num_hidden_layers = layers
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:layers]
            return fake_model(shallow, self.keys, precision, args.gradient_checkpointing, trust_remote_code)

        self._model_of = shallow_model
        self._memory: dict[tuple[int, int], StepMemory] = {}

    def offloading(self) -> Self:
        """Return the same steps with their activations in the machine's memory until the backward pass needs them."""
        deep = tuple(depth for depth in OFFLOADED_DEPTHS if depth < self._layers) if self._counted else ()
        return self._changed(_offloads=True, _counted=deep)

    def calibrated(self, calibration: Calibration | None) -> Self:
        """Return the same steps, corrected by what was measured at one shape; unchanged if nothing was."""
        return self._changed(_calibration=calibration)

    def uncorrected(self, plan: Plan) -> Plan:
        """Return a plan of these steps with the memory as it was counted, before any correction."""
        steps = self.offloading() if plan.activation_offloading else self
        return replace(plan, memory=steps.calibrated(None).memory(plan.micro_batch, plan.max_length))

    def _changed(self, **attributes: Any) -> Self:
        other = copy.copy(self)
        vars(other).update(attributes, _memory={})
        return other

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of optimizer state per trained weight."""
        optimizer = str(getattr(self._args.optim, "value", self._args.optim))
        return next(size for name, size in OPTIMIZER_BYTES if name in optimizer)

    def memory(self, batch: int, length: int) -> StepMemory:
        """Count the bytes, by part, of a step with `batch` rows of `length` tokens."""
        if (batch, length) not in self._memory:
            depths = self._counted if len(self._counted) == len(COUNTED_DEPTHS) else (self._layers,)
            counted = [self._count(depth, batch, length) for depth in depths]
            memory = _extrapolate(counted, depths, self._layers)
            self._memory[batch, length] = memory if self._calibration is None else self._calibration.applied_to(memory)
        return self._memory[batch, length]

    def _count(self, layers: int, batch: int, length: int) -> StepMemory:
        fake, size = self._model_of(layers), self.optimizer_bytes
        kind = StepKind(size, self._dtype, self._gpu, self._offloads)
        return step_memory(fake, batch, length, kind)

    def largest_batch(self, length: int, candidates: Sequence[int], budget: int) -> int | None:
        """Find the largest of `candidates` whose step needs at most `budget` bytes; None if none does.

        Memory grows linearly with the batch, so two counts give a first estimate.
        """
        least = min(candidates)
        first = self.memory(least, length).total
        if first > budget:
            return None
        estimate = least + (budget - first) // max(1, self.memory(least + 1, length).total - first)
        likely = sorted((batch for batch in candidates if batch <= estimate), reverse=True)
        return next((batch for batch in likely if self.memory(batch, length).total <= budget), least)

    def by_length(self, budget: int) -> dict[int, int | None]:
        """Find the largest micro-batch that fits, up to 32, for each usual length that the model can read."""
        lengths = [length for length in LENGTHS if length <= (self.positions or length)]
        progress = tqdm(lengths, "planning", unit=" lengths", disable=None)
        return {length: self.largest_batch(length, BATCHES, budget) for length in progress}


def _has_equal_layers(config: PretrainedConfig) -> bool:
    """Tell from the configuration whether all layers have the same size."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["same"]
    local = getattr(text, "num_local_experts", None)  # Mixtral's name
    return (
        len(set(kinds)) == 1
        and local is None
        and not any(name.startswith(("num_experts", "n_routed")) for name in vars(text))
    )


def _extrapolate(counted: Sequence[StepMemory], depths: Sequence[int], layers: int) -> StepMemory:
    """Extrapolate the memory of a full model from two shallow ones: each layer adds the same bytes to each part."""
    if len(counted) == 1:
        return counted[0]
    (few, more), (fewer, deeper) = map(asdict, counted), depths
    return StepMemory(
        **{part: few[part] + (more[part] - few[part]) * (layers - fewer) // (deeper - fewer) for part in few}
    )


def make_plan(steps: Steps, args: SFTConfig, device: Device) -> Plan:
    """Choose micro-batch, accumulation and, only where one row does not fit, a shorter length.

    Args:
        steps: the memory of the model's training steps.
        args: the sizes that the recipe asks for; with `auto_find_batch_size` the micro-batch may also grow.
        device: the device that the steps must fit.

    Raises:
        UserError: not even one short row fits.
    """
    recipe_batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    effective = recipe_batch * accumulation
    batches = [batch for batch in range(1, effective + 1) if effective % batch == 0]
    if not args.auto_find_batch_size:
        batches = [batch for batch in batches if batch <= recipe_batch]
    # Offloading costs time and no result, so it is tried before a row is shortened.
    ways = [steps] if args.activation_offloading or not device.gpu else [steps, steps.offloading()]
    for length in (args.max_length, *shorter_lengths(args.max_length)):
        for way in ways:
            fits = not args.auto_find_batch_size and way.memory(recipe_batch, length).total <= device.budget
            micro = recipe_batch if fits else way.largest_batch(length, batches, device.budget)
            if micro is not None:
                memory = way.memory(micro, length)
                reasons = (*_reasons(micro, length, args, memory, device), *_offloading_reason(way is not steps))
                return Plan(micro, effective // micro, length, memory, device, reasons, way is not steps)
    raise _too_large(ways[-1], args, device)


def corrected(plan: Plan, calibration: Calibration | None) -> Plan:
    """Add to a plan's reasons by what measurement its memory was corrected, if it was."""
    if calibration is None:
        return plan
    return replace(plan, reasons=(*plan.reasons, f"corrected by what was measured: {calibration.shape}"))


def _reasons(micro: int, length: int, args: SFTConfig, memory: StepMemory, device: Device) -> Iterator[str]:
    recipe_batch = args.per_device_train_batch_size
    need = f"a step needs {gib(memory.total)} of the {gib(device.budget)} that {device.name} has for it"
    if micro == recipe_batch:
        yield f"micro-batch {micro} as the recipe says: {need}"
    elif micro < recipe_batch:
        yield f"micro-batch {micro} instead of {recipe_batch}, with more accumulation: {need}"
    else:
        yield f"micro-batch {micro}, the largest part of the effective batch that fits: {need}"
    if length != args.max_length:
        yield f"length {length} instead of {args.max_length}: not even one row of that length fits"


def _offloading_reason(offloads: bool) -> Iterator[str]:
    if offloads:
        yield "activation_offloading: otherwise not even one row of that length fits"


def _too_large(steps: Steps, args: SFTConfig, device: Device) -> UserError:
    *_, shortest = args.max_length, *shorter_lengths(args.max_length)
    smallest = steps.memory(1, shortest)
    return UserError(
        f"this model needs {gib(smallest.total)} for one row of {shortest} tokens ({gib(smallest.weights)} of it weights), "
        f"and {device.name} has {gib(device.budget)} for it",
        line_to_change(args, steps.keys, 1, shortest, may_offload=False),
    )
