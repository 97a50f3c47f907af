"""The plan of a run as a value: the manifest records it, and a resumed run reads it back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Packing:
    """The decision on `packing: auto`.

    Attributes:
        packing: whether several documents share a row.
        sampling: the trainer's `train_sampling_strategy`.
        reason: why, as a clause.
    """

    packing: bool
    sampling: str
    reason: str


@dataclass(frozen=True)
class RunPlan:
    """The plan of one run.

    Attributes:
        micro_batch: rows per device in one forward pass.
        gradient_accumulation: forward passes whose gradients are added up in a step.
        max_length: maximum tokens per row.
        reasons: reasons for these sizes, one sentence each.
        precision: the manifest's `plan.precision`.
        memory: bytes of a step by part; None if they could not be planned.
        device: the device that was planned for; None if none was.
        packing: decision on `packing: auto`; None if the recipe decides.
        epochs: number of epochs; None until the samples are encoded.
        steps: number of optimizer steps; None until the samples are encoded.
        activation_offloading: whether activations wait in the machine's memory because a row would not fit otherwise.
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
    activation_offloading: bool = False

    def entry(self) -> dict[str, Any]:
        """Return the manifest's `plan`, without the fields that are None except `memory`."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "memory"} | {
            "reasons": [*self.reasons]
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Read the plan of a manifest."""
        packing = entry.get("packing")
        parsed = {"reasons": tuple(entry["reasons"]), "packing": None if packing is None else Packing(**packing)}
        return cls(**{**entry, **parsed})
