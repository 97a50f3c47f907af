"""Says what a number of training tokens gave where it was measured: with one model only (`docs/experiments.md`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from blocklm.formatting import count, signed


@dataclass(frozen=True, slots=True)
class MeasuredGain:
    """What training gave on some repositories: changes of bits per byte of later commits, in percent.

    Attributes:
        tokens: fewest and most training tokens of the runs.
        repositories: what they were trained on.
        against_base: largest and smallest change against the base model.
        against_others: the same against the mean of adapters of other repositories in the same language.
    """

    tokens: tuple[int, int]
    repositories: str
    against_base: tuple[float, float]
    against_others: tuple[float, float]


MODEL = "SmolLM2-135M"
MEASURED: Sequence[MeasuredGain] = (MeasuredGain((54_658, 69_374), "4 Rust repositories", (-9.0, -4.2), (-2.2, -0.8)),)


def gain_line(model: str, tokens: int) -> str:
    """Say what the measurement nearest to a number of training tokens found; for another model, that there is none.

    Args:
        model: name or path of the model.
        tokens: tokens that a run trains on.
    """
    if not PurePath(model).name.lower().startswith(MODEL.lower()):
        return f"what {count(tokens)} tokens of training give is not measured for {model}: see docs/experiments.md"
    near = min(MEASURED, key=lambda gain: abs(sum(gain.tokens) / 2 - tokens))
    return (
        f"measured with {MODEL} and {count(near.tokens[0])} to {count(near.tokens[1])} tokens on {near.repositories}: "
        f"{_range(near.against_base)} bits per byte against the base model, {_range(near.against_others)} against "
        "the mean of adapters of other repositories in its language"
    )


def _range(change: tuple[float, float]) -> str:
    return " to ".join(map(signed, change))
