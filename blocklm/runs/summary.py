"""Summarises a completed run for the terminal."""

from pathlib import Path
from typing import Any

from blocklm.runs.report.exam_text import exam_text


def summarise(run_dir: Path, manifest: dict[str, Any]) -> str:
    """Return what was trained, the exam's result, and the paths of the run's files, as lines of text."""
    splits, training = manifest["corpus"]["splits"], manifest["training"]
    minutes = sum(phase["seconds"] or 0 for phase in manifest["phases"]) / 60
    lines = [
        f"trained on {splits['train']['used']} samples ({splits['train']['tokens']} tokens) of commits up to "
        f"{splits['train']['to'][:10]}: {training['steps']} steps, {minutes:.1f} minutes in all",
        *([exam_text(manifest["exam"])] if manifest["exam"] else []),
        *(
            [
                f"rolled back: this top-up is worse than `{training['continued_from']['path']}`, whose result replaces "
                f"it; the rejected result is in {run_dir / 'rejected'}"
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
