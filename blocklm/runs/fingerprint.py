"""Identifies the weights that a run saved, so that stored answers and audits can be matched to them."""

import json
from hashlib import sha256
from pathlib import Path

from blocklm.files import digest
from blocklm.runs.checkpoints import saved_weights

# Settings that change what an adapter's weights do.
ADAPTER_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


def weights_of(run_dir: Path) -> str:
    """Return a SHA-256, in hexadecimal, of a run's weights and of its adapter's shape and strength."""
    fingerprint = sha256()
    for path in saved_weights(run_dir):
        fingerprint.update(digest(path).encode())
    path = run_dir / "adapter_config.json"
    adapter = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    fingerprint.update(json.dumps({key: adapter.get(key) for key in ADAPTER_KEYS}).encode())
    return fingerprint.hexdigest()
