"""The recipe's keys for watching the hardware during training."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.errors import UserError


@dataclass(frozen=True)
class WatchArguments:
    """How closely the hardware is watched, and what ends or pauses a run."""

    _argument_group_name: ClassVar[str] = "hardware"
    hardware_interval: float = field(
        default=5.0,
        metadata={
            "help": "Seconds between two readings of GPU, memory, disk and network. 0 for none; the next three keys then "
            "have no effect."
        },
    )
    memory_warn_percent: float = field(
        default=95.0,
        metadata={
            "help": "Percent of the machine's RAM, or of a GPU's memory without PyTorch's cache, above which a warning "
            "is logged."
        },
    )
    memory_stop_percent: float = field(
        default=98.0,
        metadata={
            "help": "Percent of the machine's RAM above which a checkpoint is saved and the run stops; 100 never stops. "
            "If a GPU's memory is full, the micro-batch is made smaller instead."
        },
    )
    max_gpu_temp: float = field(
        default=90.0,
        metadata={
            "help": "Degrees Celsius of a GPU above which training pauses until it is 5 degrees cooler; after ten minutes "
            "at that heat the run saves and stops."
        },
    )


def check_watch(watch: WatchArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a share of memory is not between 0 and 100 percent, or an interval or temperature is out of bounds.
    """
    if not 0 <= watch.hardware_interval < math.inf:
        raise UserError(f"`hardware_interval` cannot be {watch.hardware_interval}", "give seconds, such as 5")
    for key in ("memory_warn_percent", "memory_stop_percent"):
        value = getattr(watch, key)
        if not 0 < value <= 100:
            raise UserError(f"`{key}` cannot be {value}", "give a share of the memory in percent, such as 95")
    if not watch.max_gpu_temp > 0:
        raise UserError(f"`max_gpu_temp` cannot be {watch.max_gpu_temp}", "give degrees Celsius, such as 90")
