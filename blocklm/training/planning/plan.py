"""What a run will need, before it loads anything: memory by part, and the largest micro-batch and length that fit the device.

The effective batch of the recipe is kept: what a smaller micro-batch takes from a step, accumulation gives back.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from tqdm import tqdm
from transformers import PretrainedConfig
from trl import ModelConfig, SFTConfig

from blocklm.errors import UserError
from blocklm.formatting import gib
from blocklm.models.loading import positions
from blocklm.models.precision import Precision
from blocklm.models.quantization import keys_as_stored
from blocklm.training.planning.device import Device
from blocklm.training.planning.fake_model import fake_model
from blocklm.training.planning.step_memory import StepMemory, step_memory

MIN_LENGTH = 256
COUNTED_LAYERS = (2, 4)
LENGTHS = (512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32)
OPTIMIZER_BYTES = (("8bit", 2), ("sgd", 0), ("adafactor", 0), ("lion", 4), ("", 8))  # of state for each trained weight


@dataclass(frozen=True)
class Plan:
    """What was chosen, what it needs and why."""

    micro_batch: int
    gradient_accumulation: int
    max_length: int
    memory: StepMemory
    device: Device
    reasons: tuple[str, ...]

    def entry(self) -> dict[str, Any]:
        """The manifest's `plan`."""
        return asdict(self) | {
            "memory": asdict(self.memory) | {"total": self.memory.total},
            "reasons": [*self.reasons],
        }


class Steps:
    """What a training step of one model needs, for any batch and length; each is counted once.

    Args:
        config: the architecture.
        keys: quantisation, adapter, attention.
        args: optimizer and checkpointing.
        precision: of the matrix products.
        gpu: whether it is to run on one.
        trust_remote_code: whether the architecture's own code may be run.
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
        self.keys, self.positions = keys_as_stored(keys, config), positions(config)
        self._args, self._dtype, self._gpu = args, precision.dtype, gpu
        self._layers: int = config.get_text_config().num_hidden_layers
        self._counted = tuple(layers for layers in COUNTED_LAYERS if layers < self._layers) if _is_even(config) else ()

        @cache
        def of_depth(layers: int) -> Any:
            shallow = copy.deepcopy(config)
            text = shallow.get_text_config()
            text.num_hidden_layers = layers
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:layers]
            return fake_model(shallow, self.keys, precision, args.gradient_checkpointing, trust_remote_code)

        self._phantom = of_depth
        self._known: dict[tuple[int, int], StepMemory] = {}

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer's state for each trained weight."""
        optimizer = str(getattr(self._args.optim, "value", self._args.optim))
        return next(size for name, size in OPTIMIZER_BYTES if name in optimizer)

    def memory(self, batch: int, length: int) -> StepMemory:
        """Bytes by part of a step with `batch` rows of `length` tokens."""
        if (batch, length) not in self._known:
            depths = self._counted if len(self._counted) == len(COUNTED_LAYERS) else (self._layers,)
            counted = [self._count(depth, batch, length) for depth in depths]
            self._known[batch, length] = _extended(counted, depths, self._layers)
        return self._known[batch, length]

    def _count(self, layers: int, batch: int, length: int) -> StepMemory:
        model, mode = self._phantom(layers)
        size = self.optimizer_bytes
        return step_memory(model, mode, batch, length, optimizer_bytes=size, dtype=self._dtype, gpu=self._gpu)

    def largest_batch(self, length: int, candidates: Sequence[int], budget: int) -> int | None:
        """The largest of `candidates` with which a step needs at most `budget` bytes; None if none does.

        Memory grows linearly with the batch, so two counts tell where to look.
        """
        least = min(candidates)
        first = self.memory(least, length).total
        if first > budget:
            return None
        room = least + (budget - first) // max(1, self.memory(least + 1, length).total - first)
        likely = sorted((batch for batch in candidates if batch <= room), reverse=True)
        return next((batch for batch in likely if self.memory(batch, length).total <= budget), least)

    def by_length(self, budget: int) -> dict[int, int | None]:
        """The largest micro-batch that fits, up to 32, for each usual length that the model can read."""
        lengths = [length for length in LENGTHS if length <= (self.positions or length)]
        shown = tqdm(lengths, "planning", unit=" lengths", disable=None)
        return {length: self.largest_batch(length, BATCHES, budget) for length in shown}


def _is_even(config: PretrainedConfig) -> bool:
    """Whether all layers are alike, as far as the configuration says."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["same"]
    local = getattr(text, "num_local_experts", None)  # Mixtral's name
    return (
        len(set(kinds)) == 1
        and local is None
        and not any(name.startswith(("num_experts", "n_routed")) for name in vars(text))
    )


def _extended(counted: Sequence[StepMemory], depths: Sequence[int], layers: int) -> StepMemory:
    """Each layer of the same kind adds the same bytes to each part: two depths tell those of any."""
    if len(counted) == 1:
        return counted[0]
    (few, more), (fewer, deeper) = map(asdict, counted), depths
    return StepMemory(
        **{part: few[part] + (more[part] - few[part]) * (layers - fewer) // (deeper - fewer) for part in few}
    )


def make_plan(steps: Steps, args: SFTConfig, device: Device) -> Plan:
    """Choose micro-batch, accumulation and, only where one row does not fit, a shorter length.

    Args:
        steps: of the model.
        args: what the recipe asks for; with `auto_find_batch_size` the micro-batch may also grow.
        device: where it is to fit.

    Raises:
        UserError: not even one short row fits.
    """
    asked, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    effective = asked * accumulation
    batches = [batch for batch in range(1, effective + 1) if effective % batch == 0]
    if not args.auto_find_batch_size:
        batches = [batch for batch in batches if batch <= asked]
    for length in (args.max_length, *shorter_lengths(args.max_length)):
        kept = not args.auto_find_batch_size and steps.memory(asked, length).total <= device.budget
        micro = asked if kept else steps.largest_batch(length, batches, device.budget)
        if micro is not None:
            memory = steps.memory(micro, length)
            reasons = tuple(_reasons(micro, length, args, memory, device))
            return Plan(micro, effective // micro, length, memory, device, reasons)
    raise _too_large(steps, args, device)


def _reasons(micro: int, length: int, args: SFTConfig, memory: StepMemory, device: Device) -> Iterator[str]:
    asked = args.per_device_train_batch_size
    room = f"a step needs {gib(memory.total)} of the {gib(device.budget)} that {device.name} has for it"
    if micro == asked:
        yield f"micro-batch {micro} as the recipe says: {room}"
    elif micro < asked:
        yield f"micro-batch {micro} instead of {asked}, with more accumulation: {room}"
    else:
        yield f"micro-batch {micro}, the largest part of the effective batch that fits: {room}"
    if length != args.max_length:
        yield f"length {length} instead of {args.max_length}: not one row of that fits"


def _too_large(steps: Steps, args: SFTConfig, device: Device) -> UserError:
    *_, shortest = args.max_length, *shorter_lengths(args.max_length)
    least = steps.memory(1, shortest)
    remedy = "take a smaller `model_name_or_path`"
    if not args.gradient_checkpointing:
        remedy = "set `gradient_checkpointing: true`"
    elif not steps.keys.use_peft:
        remedy = "set `use_peft: true`: LoRA trains a hundredth of the weights"
    elif not steps.keys.load_in_4bit:
        remedy = "set `load_in_4bit: true` and `use_peft: true`"
    return UserError(
        f"this model needs {gib(least.total)} for one row of {shortest} tokens ({gib(least.weights)} of it weights), "
        f"and {device.name} has {gib(device.budget)} for it",
        remedy,
    )


def shorter_lengths(longest: int) -> Iterator[int]:
    """Three quarters, a half and so on of a length, as long as there is something to learn from in so few tokens."""
    for parts in (0.75, 0.5, 0.375, 0.25):
        if int(longest * parts) >= MIN_LENGTH:
            yield int(longest * parts)
