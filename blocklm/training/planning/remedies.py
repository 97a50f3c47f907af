"""The line of a recipe to change where a step does not fit into memory, the cheapest change first."""

from collections.abc import Iterator

from trl import ModelConfig, SFTConfig

MIN_LENGTH = 256


def line_to_change(args: SFTConfig, keys: ModelConfig, micro_batch: int, length: int, may_offload: bool) -> str:
    """Name the next line of a recipe to change, as the hint of a message.

    Args:
        args: the trainer's arguments with which the step did not fit.
        keys: quantisation and adapter.
        micro_batch: rows of the step.
        length: tokens of a row.
        may_offload: whether activations could be moved to the machine's memory, which needs a GPU.
    """
    if micro_batch > 1:
        accumulation = args.per_device_train_batch_size * args.gradient_accumulation_steps // (micro_batch // 2)
        return (
            f"set `per_device_train_batch_size: {micro_batch // 2}` and `gradient_accumulation_steps: {accumulation}`"
        )
    if not args.gradient_checkpointing:
        return "set `gradient_checkpointing: true`"
    if not keys.use_peft:
        return "set `use_peft: true`: LoRA trains a hundredth of the weights"
    if not keys.load_in_4bit:
        return "set `load_in_4bit: true` and `use_peft: true`"
    if may_offload and not args.activation_offloading:
        return "set `activation_offloading: true`: activations wait in the machine's memory"
    if (shorter := next(shorter_lengths(length), None)) is not None:
        return f"set `max_length: {shorter}`"
    return "take a smaller `model_name_or_path`"


def shorter_lengths(longest: int) -> Iterator[int]:
    """Yield three quarters, a half and so on of a length, down to 256 tokens: fewer would teach too little."""
    for parts in (0.75, 0.5, 0.375, 0.25):
        if int(longest * parts) >= MIN_LENGTH:
            yield int(longest * parts)
