"""The plan of a run: what it takes of its device, as a value that the manifest records and a resumed run reads back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Packing:
    """Whether several documents share a row, in which order rows are read, and why."""

    packing: bool
    sampling: str
    reason: str


@dataclass(frozen=True)
class RunPlan:
    """The plan of one run.

    Attributes:
        micro_batch: rows of a step on one device.
        gradient_accumulation: steps whose gradients are added up.
        max_length: tokens that a row may have.
        reasons: why these, one sentence each.
        precision: the manifest's `plan.precision`.
        memory: bytes of a step by part; None where it cannot be planned.
        device: the device that was planned for; None where nothing was.
        packing: what was decided for `packing: auto`; None where the recipe decides.
        epochs: how often the samples are read; None until they are there.
        steps: updates of the weights; None until the samples are there.
    """

    micro_batch: int
    gradient_accumulation: int
    max_length: int
    reasons: tuple[str, ...]
    precision: Mapping[str, Any]
    memory: Mapping[str, Any] | None = None
    device: Mapping[str, Any] | None = None
    packing: Packing | None = None
    epochs: float | None = None
    steps: int | None = None

    def entry(self) -> dict[str, Any]:
        """The manifest's `plan`: what is not known is left out, but for `memory`."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "memory"} | {
            "reasons": [*self.reasons]
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Read the plan of a manifest."""
        packing = entry.get("packing")
        found = {"reasons": tuple(entry["reasons"]), "packing": None if packing is None else Packing(**packing)}
        return cls(**{**entry, **found})
