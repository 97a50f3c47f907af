"""Decides whether a run may be pushed: no secrets in its files, nothing memorised, an exam not worse than its base."""

import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from blocklm.evaluation.canaries import FIRST_BY_CHANCE
from blocklm.mining.redaction import redact

MAX_REGURGITATED_SHARE = 0.05
# All text files but the vocabulary, which is the base model's own.
CHECKED = ("*.md", "*.json", "*.yaml", "*.jinja")
NOT_CHECKED = ("tokenizer.json", "vocab.json", "model.safetensors.index.json")
READ_BYTES = 1 << 24  # larger files hold numbers; only their start is read
MIN_HOST = 4  # host names up to this length may be ordinary words
LOCAL_PATH = re.compile(
    r"(?<![\w.:/])(?:/(?:home|root|Users|tmp|mnt|work|data|srv|var|opt|private)/|[A-Z]:\\|~/)[\w.-]+"
)


def reasons_against(manifest: dict[str, Any], audit: dict[str, Any], folder: Path) -> list[str]:
    """List the reasons why a result must not be pushed; empty if it may be.

    Args:
        manifest: the run's manifest.
        audit: report of `blocklm.evaluation.memorization`, or `refused` with the reason why there is none.
        folder: folder of the files to push.
    """
    return [*_exam_reasons(manifest), *_audit_reasons(audit), *_file_reasons(folder)]


def _exam_reasons(manifest: dict[str, Any]) -> Iterable[str]:
    exam = manifest["exam"]
    if exam is None:
        yield "no exam was run: nothing says that it is better than its base"
    elif exam["verdict"] == "worse":
        yield f"the exam finds it worse than its base ({exam['delta_percent']:+.1f} % bits per byte)"
    if not (manifest.get("saved") or {}).get("differs_from_base"):
        yield "its weights were not seen to differ from its base when they were saved"


def _audit_reasons(audit: dict[str, Any]) -> Iterable[str]:
    if "refused" in audit:
        yield f"what it memorised could not be audited: {audit['refused']}"
        return
    canaries, regurgitation = audit["canaries"], audit["regurgitation"]
    if canaries and canaries["extracted"]:
        yield f"it recites {canaries['extracted']} of {canaries['planted']} canaries when asked"
    elif canaries and canaries["first_of_their_kind"] > FIRST_BY_CHANCE:
        first = canaries["first_of_their_kind"]
        yield f"it prefers {first} of {canaries['planted']} canaries to every code that it never saw"
    if regurgitation and regurgitation["share"] > MAX_REGURGITATED_SHARE:
        yield (
            f"{regurgitation['regurgitated']} of {regurgitation['asked']} answers to training prompts hold "
            f"{regurgitation['span_tokens']} tokens of training text in a row"
        )
    if count := audit["redacted"]["in_history"]:
        yield f"asked at redacted places, it gives {count} secrets that stand in the history"


def _file_reasons(folder: Path) -> Iterable[str]:
    """Yield secrets and traces of this machine in the files, by file name and kind; never the value."""
    token, host = (get_token() or "").encode(), platform.node()
    named = re.compile(rf"(?<![\w-]){re.escape(host)}(?![\w-])") if len(host) > MIN_HOST else None
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        with path.open("rb") as file:
            content = file.read(READ_BYTES)
        if token and token in content:
            yield f"{name} holds the hub token"
        if not any(path.match(pattern) for pattern in CHECKED) or path.name in NOT_CHECKED:
            continue
        text = content.decode(errors="replace")
        if found := redact([text])[0].kinds:
            yield f"{name} holds what looks like a secret or a person: {', '.join(sorted(set(found)))}"
        if LOCAL_PATH.search(text) or (named is not None and named.search(text)):
            yield f"{name} names a folder of this machine, or the machine"
