"""Builds `report.html`, one self-contained page about a run, from the files of its directory.

The page has no script, and its policy forbids any; all text from the repository or from a model is escaped.
"""

import json
import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from blocklm.errors import UserError
from blocklm.files import replace_file
from blocklm.formatting import day
from blocklm.runs.manifest import read_manifest
from blocklm.runs.model_card import ADAPTER_USAGE, MODEL_USAGE
from blocklm.runs.report import charts, editor, exam_tables, examples, provenance, series, verdict
from blocklm.runs.report.components import Chart, Table

logger = logging.getLogger(__name__)

NAME = "report.html"
# Unicode categories that are invisible or reorder the text around them: controls, formats such as bidirectional
# overrides, surrogates.
INVISIBLE = ("Cc", "Cf", "Cs")
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError)  # what reading such a file ends in
Part = TypeVar("Part")


@contextmanager
def reporting(run_dir: Path, writes: bool) -> Iterator[None]:
    """Write the report when the block ends, even by an error, if the run got as far as its training.

    A report that fails does not fail the run: a warning says so, and `scripts/report.py` can build it later.

    Args:
        run_dir: the run directory.
        writes: whether this process writes the report; only the main one does.
    """
    try:
        yield
    finally:
        if writes:
            _write_or_warn(run_dir)


def _write_or_warn(run_dir: Path) -> None:
    try:
        manifest = read_manifest(run_dir)
        if manifest and any(phase["name"] == "train" for phase in manifest["phases"]):
            write_html_report(run_dir)
    except Exception as error:
        logger.warning("no %s (%s); `python scripts/report.py %s` tries again", NAME, error, run_dir)


def write_html_report(run_dir: Path) -> Path:
    """Build the page from `manifest.json` and, if they exist, the other files that describe the run.

    These are `exam.json`, `exam-again.json`, `samples.jsonl`, what `scripts/serve.py` wrote, and TensorBoard's files.
    What of them is damaged is left out, with a warning.

    Returns:
        The path of the page.

    Raises:
        UserError: the directory has no manifest.
    """
    manifest = read_manifest(run_dir)
    if manifest is None:
        raise UserError(f"`{run_dir}` holds no manifest.json", "give the `output_dir` of a run")
    replace_file(run_dir / NAME, _template().render(_content(run_dir, manifest)))
    return run_dir / NAME


def _content(run_dir: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    curves = series.read_series(run_dir, manifest["training"])
    step, recipe = series.last_step(curves), manifest["recipe"]
    rolled_back = (manifest["training"] or {}).get("rolled_back")
    return {
        "title": (manifest["repository"] or {}).get("name") or "a run that had only started",
        "model": Path(str(recipe["model_name_or_path"])).name,
        "kind": "LoRA adapter" if recipe.get("use_peft") else "fine-tuned copy",
        "status": manifest["status"],
        "outcome": "rolled back" if rolled_back else (manifest["exam"] or {}).get("verdict"),
        "started": day(manifest["started_at"]),
        "version": manifest["blocklm_version"],
        "verdict": verdict.verdict(manifest),
        "meaning": verdict.MEANING,
        "numbers": verdict.key_numbers(manifest, step),
        "completion": examples.completion(examples.read_samples(run_dir / "samples.jsonl")),
        "exam": _exam(run_dir, manifest),
        "again": _unless_damaged(run_dir / "exam-again.json", _exam_again),
        "editor": _editor(run_dir),
        "data": _data(manifest),
        "training": provenance.training(manifest["training"]) if manifest["training"] else None,
        "curves": _draw(series.training_charts(curves)),
        "samples": _samples(run_dir),
        "hardware": provenance.hardware(manifest["hardware"]) if manifest["hardware"] else None,
        "hardware_curves": _draw(series.hardware_charts(curves)),
        "memory": provenance.memory(manifest["plan"] or {}),
        "reasons": provenance.reasons(manifest["plan"] or {}),
        "phases": provenance.phases(manifest["phases"]),
        "usage": _usage(run_dir, recipe) if manifest["exam"] else None,
        "artifacts": provenance.artifacts(manifest["artifacts"]),
        "environment": provenance.environment(manifest),
        "recipe": provenance.recipe(recipe),
    }


def _usage(run_dir: Path, recipe: Mapping[str, Any]) -> str:
    """Return the Python code that loads the result."""
    usage = ADAPTER_USAGE if recipe.get("use_peft") else MODEL_USAGE
    return usage.format(run=verdict.usage_folder(run_dir, recipe), at="")


def _unless_damaged(path: Path, make: Callable[[Path], Part]) -> Part | None:
    """Make a part of the page from a file of the run; None if there is none, or, with a warning, if it is damaged."""
    if not path.is_file():
        return None
    try:
        return make(path)
    except DAMAGED as error:
        logger.warning("`%s` is damaged (%s: %s): %s does without it", path, type(error).__name__, error, NAME)
        return None


def _exam(run_dir: Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the exam's charts and tables, with single items if `exam.json` exists."""
    exam = manifest["exam"]
    if not exam:
        return None
    of_items = _unless_damaged(run_dir / "exam.json", lambda path: _items(json.loads(path.read_bytes()), manifest))
    items = of_items or {"language": None, "edits": None, "best": [], "worst": []}
    return {
        "interval": charts.interval_chart(verdict.comparisons(exam)),
        "tables": [*_tables(exam), *filter(None, [items["language"]])],
        "edits": items["edits"],
        "best": items["best"],
        "worst": items["worst"],
    }


def _items(exam: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    items = exam.get("per_item", [])
    pairs = [(i["base_bits"] / i["bytes"], i["tuned_bits"] / i["bytes"]) for i in items if i["bytes"]]
    pairs = [pair for pair in pairs if min(pair) > 0]
    best, worst = examples.extremes(items, manifest)
    edits = charts.items_chart(pairs) if pairs else None
    return {"language": exam_tables.by_language(items), "edits": edits, "best": best, "worst": worst}


def _exam_again(path: Path) -> dict[str, Any]:
    """Return what `scripts/evaluate.py` measured, mostly with more arms or against other adapters."""
    exam = json.loads(path.read_bytes())
    return {"tables": _tables(exam), "controls": verdict.own_or_form(exam) if "controls" in exam else None}


def _editor(run_dir: Path) -> dict[str, Any] | None:
    """Return what the server of the run found out: the curve of its silence, and what editors kept; None if nothing."""
    silence = _unless_damaged(run_dir / editor.SILENCE, _silence)
    feedback = _unless_damaged(run_dir / editor.FEEDBACK, editor.feedback_table)
    return None if silence is None and feedback is None else {"silence": silence, "feedback": feedback}


def _silence(path: Path) -> dict[str, Any]:
    chart, sentence = editor.silence_chart(path)
    return {"chart": charts.line_chart(chart), "sentence": sentence}


def _tables(exam: Mapping[str, Any]) -> list[Table]:
    made = (exam_tables.arms, exam_tables.controls, exam_tables.parts, exam_tables.identifiers, exam_tables.tasks)
    return [table for make in made if (table := make(exam)) is not None]


def _data(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    repository, corpus = manifest["repository"], manifest["corpus"]
    if not (repository and corpus):
        return None
    changes = provenance.funnel(corpus["funnel"], "Changed files", "changes to learn from")
    hunks = provenance.funnel(
        corpus["hunk_funnel"], "Hunks of the kept changes", "hunks for training, validation or exam"
    )
    return {
        "sentence": provenance.repository(repository),
        "advice": repository["advice"],
        "languages": provenance.languages(repository["languages"]),
        "splits": provenance.splits(corpus),
        "repositories": provenance.repositories(corpus),
        "views": provenance.views(corpus),
        "exposures": provenance.exposures(corpus),
        "funnels": (changes, hunks),
        "redactions": provenance.redactions(corpus),
    }


def _samples(run_dir: Path) -> dict[str, Any] | None:
    rows = examples.read_samples(run_dir / "samples.jsonl")
    return {"curves": _draw(examples.score_charts(rows)), "examples": examples.samples(rows)} if rows else None


def _draw(line_charts: list[Chart]) -> list[tuple[Chart, Markup]]:
    return [(chart, charts.line_chart(chart)) for chart in line_charts]


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("blocklm.runs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_invisible,
    )
    return environment.get_template("report.html")


def _escape_invisible(value: Any) -> Any:
    """Replace characters that are invisible, or reorder their neighbours, by escape sequences."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in INVISIBLE and c not in "\n\t" else c for c in value
    )
