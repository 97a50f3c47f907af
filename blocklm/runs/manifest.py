"""Records what a run did in `manifest.json`, written atomically after each phase and valid after a kill at any time."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import blocklm
from blocklm.config.sampling import RENAMED
from blocklm.errors import UserError
from blocklm.files import digest, write_json
from blocklm.runs.checkpoints import saved_weights

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "pydriller")
SECTIONS = ("repository", "corpus", "plan", "training", "hardware", "generation", "exam")


class Manifest:
    """Content of the `manifest.json` of a run in progress, with methods that change and write it.

    The status is `interrupted` from the first write until the run ends, so that it is right after a kill.

    Args:
        path: path of the file.
        recipe: keys and values of the resolved recipe.
        writes: whether this process writes the file; only the main one does. Default: yes.
        kept: entries of an earlier start that must survive a kill of this one; default: none.
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
        """Set top-level entries and write the file."""
        self.content.update(sections)
        self._write()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and record whether it completed, was interrupted, or failed with which reason."""
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
                with suppress(OSError):  # a full disk may refuse this too; the status in the file stays `interrupted`
                    self.finish(entry["status"])

    def finish(self, status: str) -> None:
        """Record the end of the run; `status` is complete, interrupted or failed."""
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
    """Read the manifest of a run directory; None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = run_dir / "manifest.json"
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"`{path}` is damaged: {error}", "delete it: the training command resumes from its checkpoints without it"
        ) from None
    return content


def read_complete_manifest(run_dir: Path, name: str) -> dict[str, Any]:
    """Read the manifest of a complete run that still has its result.

    Args:
        run_dir: the run directory.
        name: name of the run for error messages.

    Raises:
        UserError: the run is not complete, or its adapter or model is gone.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["status"] != "complete":
        raise UserError(f"{name} is not a complete run", "run its training command to the end, or name another run")
    if not saved_weights(run_dir):
        raise UserError(f"the adapter of {name} is gone", "name another run, or train again")
    return manifest


def add_to_manifest(run_dir: Path, **entries: Any) -> None:
    """Set top-level entries of the manifest of a run that has ended."""
    write_json(run_dir / "manifest.json", (read_manifest(run_dir) or {}) | entries)


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "os": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def views_of_before(manifest: Mapping[str, Any]) -> list[str]:
    """List the views of a run that have another name and another form today."""
    return sorted(RENAMED.keys() & ((manifest.get("corpus") or {}).get("prompts") or {}).keys())
