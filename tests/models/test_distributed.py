"""Processes wait for each other as long as the recipe says, and a claim to shard is checked."""

import subprocess
import sys

from tests.support.scripts import script_environment

JOIN = """
import os
import torch.distributed
from blocklm.errors import UserError
from blocklm.models.distributed import init_distributed
init_distributed({"ddp_timeout": 77})
group = torch.distributed.distributed_c10d._get_default_group()
print(int(group._get_backend(torch.device("cpu")).options._timeout.total_seconds()))
os.environ["ACCELERATE_USE_FSDP"] = "true"
try:
    init_distributed({"ddp_timeout": 77})
except UserError as error:
    print(error, error.hint)
"""


def test_processes_join_with_the_recipes_timeout_and_refuse_to_shard_on_cpus() -> None:
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", JOIN], env=script_environment() | one, capture_output=True, text=True, check=True
    )
    patience, refused = done.stdout.strip().splitlines()
    assert patience == "77"
    assert "would train with plain DDP" in refused
    assert "recipes/accelerate/ddp.yaml" in refused
