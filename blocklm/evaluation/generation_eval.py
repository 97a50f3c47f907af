"""Asks a model fixed questions and scores its answers, during training and afterwards.

`samples.jsonl` in the run directory has a row for each answer and step: `step`, `item` (the question's id), `task`,
`path`, `commit`, `language`, `prompt`, `prefix` and `suffix` (the lines around an answer that stands in a file),
`output`, `truth` (null for a prompt of the recipe) and `scores`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from blocklm.evaluation.questions import GenerationTask
from blocklm.evaluation.scoring import by_task, scores_of
from blocklm.files import read_json_lines, write_json_lines
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.models.loaded import LoadedModel

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, the model's answer and its scores by name."""

    question: GenerationTask
    output: str
    scores: dict[str, float]

    def row(self, step: int) -> dict[str, Any]:
        """Make the row of `samples.jsonl`."""
        task = self.question
        about = {"step": step, "item": task.id, "task": task.task, "path": task.path, "commit": task.commit}
        shown = {"language": task.language, "prompt": task.prompt, "prefix": task.prefix, "suffix": task.suffix}
        return about | shown | {"output": self.output, "truth": task.truth, "scores": self.scores}


def ask(loaded: LoadedModel, questions: Sequence[GenerationTask], decoding: Decoding) -> list[Answer]:
    """Ask a model questions and score its answers, in the order of the questions.

    An answer depends on its question alone, so that an interrupted evaluation can go on with the remaining questions.
    The model's train or eval mode is restored afterwards.

    Args:
        loaded: the model, in train or eval mode.
        questions: the questions.
        decoding: length, temperature and seed of the answers.
    """
    tokens, lines = [question.tokens for question in questions], [question.lines for question in questions]
    outputs = generate(loaded, tokens, decoding, lines, heals=[question.heals for question in questions])
    return [
        Answer(question, output.text, scores_of(question, output))
        for question, output in zip(questions, outputs, strict=True)
    ]


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """Read the rows of a run's `samples.jsonl`, ordered by step; none if there is no such file."""
    return read_json_lines(run_dir / SAMPLES, skip_torn=True)


def write_rows(run_dir: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace `samples.jsonl` in one step, so that a kill leaves no partial row."""
    write_json_lines(run_dir / SAMPLES, rows)


def history(rows: Sequence[dict[str, Any]], step: int) -> dict[str, Any] | None:
    """Build the manifest's `generation` entry: the mean scores by task at each step and at the saved step.

    Args:
        rows: the rows of `samples.jsonl`.
        step: the step whose weights were saved.
    """
    steps = [
        {"step": number, "tasks": by_task((row["task"], row["scores"]) for row in answers)}
        for number, answers in groupby(rows, key=lambda row: row["step"])
    ]
    saved = next((entry["tasks"] for entry in steps if entry["step"] == step), None)
    return {"step": step, "tasks": saved, "history": steps} if steps else None
