"""scripts/train.py with real FSDP2 over gloo; accelerate shards only on GPUs, and silently uses DDP otherwise."""

import runpy
import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from tests.conftest import ROOT

initialise = PartialState.__init__


def as_if_on_gpus(self: PartialState, *arguments: Any, **keys: Any) -> None:
    initialise(self, *arguments, **keys)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = as_if_on_gpus
sys.argv[0] = str(ROOT / "scripts" / "train.py")
runpy.run_path(sys.argv[0], run_name="__main__")
