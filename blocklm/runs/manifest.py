"""The manifest: what a run did, written atomically after every phase and valid after a kill at any time."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import blocklm
from blocklm.runs.report.exam_table import exam_table

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "pydriller")
SECTIONS = ("repository", "corpus", "plan", "training", "hardware", "generation", "exam")


class Manifest:
    """`manifest.json` of a run directory (design §5); only the main process writes.

    The status reads `interrupted` from the first write until the end is reached, so that a kill needs no last words.

    Args:
        path: of the file.
        recipe: resolved.
        writes: whether this process is the main one.
        kept: entries of an earlier start that must outlive a kill of this one.
    """

    def __init__(
        self, path: Path, recipe: dict[str, Any], writes: bool = True, kept: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._writes = writes
        self.content: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "status": "interrupted",
            "command": " ".join(sys.argv),
            "started_at": _now(),
            "finished_at": None,
            "blocklm_version": blocklm.__version__,
            "recipe": recipe,
            "environment": _environment(),
            **dict.fromkeys(SECTIONS),
            "phases": [],
            "artifacts": [],
            **(kept or {}),
        }
        self._write()

    def update(self, **sections: Any) -> None:
        """Set top-level entries and write."""
        self.content.update(sections)
        self._write()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and record how it ended: complete, interrupted, or failed and why."""
        entry: dict[str, Any] = {"name": name, "status": "running", "seconds": None}
        self.content["phases"].append(entry)
        self._write()
        started = time.monotonic()
        entry["status"] = "failed"
        try:
            yield
            entry["status"] = "complete"
        except KeyboardInterrupt:
            entry["status"] = "interrupted"
            raise
        except Exception as error:
            entry["reason"] = str(error) or type(error).__name__
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - started, 2)
            if entry["status"] == "complete":
                self._write()
            else:
                with suppress(OSError):  # a full disk may refuse this too; the file then still reads `interrupted`
                    self.finish(entry["status"])

    def finish(self, status: str) -> None:
        """Record the end: complete, interrupted or failed."""
        self.update(status=status, finished_at=_now())

    def add_artifacts(self, paths: list[Path]) -> None:
        """Record size and SHA-256 of files of the run directory."""
        root = self._path.parent
        self.update(
            artifacts=[
                {"path": str(path.relative_to(root)), "bytes": path.stat().st_size, "sha256": digest(path)}
                for path in sorted(paths)
            ]
        )

    def _write(self) -> None:
        if self._writes:
            write_json(self._path, self.content)


def read_manifest(run_dir: Path) -> dict[str, Any] | None:
    """The manifest of a run directory, None if there is none."""
    path = run_dir / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def add_to_manifest(run_dir: Path, **entries: Any) -> None:
    """Set top-level entries of the manifest of a run that has ended."""
    write_json(run_dir / "manifest.json", (read_manifest(run_dir) or {}) | entries)


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as JSON, in one step."""
    replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write `path` in one step: a reader, a kill or another process sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def summarise(run_dir: Path, manifest: dict[str, Any]) -> str:
    """The lines a reader needs at the end of a run."""
    splits, training = manifest["corpus"]["splits"], manifest["training"]
    minutes = sum(phase["seconds"] or 0 for phase in manifest["phases"]) / 60
    lines = [
        f"trained on {splits['train']['used']} samples ({splits['train']['tokens']} tokens) of commits before "
        f"{splits['validation']['from'][:10]}: {training['steps']} steps, {minutes:.1f} minutes in all",
        *([exam_table(manifest["exam"])] if manifest["exam"] else []),
        *(
            [
                f"rolled back: this top-up is worse than `{training['continued_from']['path']}`, whose result stands in its "
                f"place; what was just trained is in {run_dir / 'rejected'}"
            ]
            if training.get("rolled_back")
            else []
        ),
        f"adapter, model card and manifest.json: {run_dir}",
        *(
            [f"report to open, print or mail: {run_dir / 'report.html'}"]
            if (run_dir / "report.html").is_file()
            else []
        ),
        f"curves: tensorboard --logdir {run_dir / 'tensorboard'}",
    ]
    return "\n".join(lines)


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "os": platform.platform(),
        "cpus": os.cpu_count(),
    }


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
