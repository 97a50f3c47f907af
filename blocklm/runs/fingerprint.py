"""A name for the weights that a run saved, by which answers and audits of them are found again."""

import json
from hashlib import sha256
from pathlib import Path

from blocklm.files import digest
from blocklm.runs.checkpoints import saved_weights

ACTS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")  # how an adapter's weights act


def weights_of(run_dir: Path) -> str:
    """A name for what a run saved: a digest of its weights, and of an adapter's shape and strength."""
    found = sha256()
    for path in saved_weights(run_dir):
        found.update(digest(path).encode())
    path = run_dir / "adapter_config.json"
    adapter = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found.update(json.dumps({key: adapter.get(key) for key in ACTS}).encode())
    return found.hexdigest()
