"""What a model does: fixed questions, its answers, their scores. The same for a model in training and for a finished one.

`samples.jsonl` in the run directory keeps a row for each answer and step: `step`, `item` (the question's id), `task`, `path`,
`commit`, `language`, `prompt`, `output`, `truth` (null for a prompt of the recipe) and `scores`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.evaluation.questions import GenerationTask
from blocklm.evaluation.scoring import by_task, scores_of
from blocklm.files import read_json_lines, write_json_lines
from blocklm.models.generation import Decoding, generate

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, what was written, and how well that was."""

    question: GenerationTask
    output: str
    scores: dict[str, float]

    def row(self, step: int) -> dict[str, Any]:
        """The row of `samples.jsonl`."""
        asked = self.question
        about = {"step": step, "item": asked.id, "task": asked.task, "path": asked.path, "commit": asked.commit}
        texts = {"language": asked.language, "prompt": asked.prompt, "output": self.output, "truth": asked.truth}
        return about | texts | {"scores": self.scores}


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[GenerationTask],
    decoding: Decoding,
    dtype: torch.dtype,
) -> list[Answer]:
    """Ask a model, which stays as it is; the answers stand in the order of the questions.

    Each answer is that question's own: a sitting that was cut off goes on with the questions that are left.

    Args:
        model: in any mode.
        tokenizer: of the model.
        questions: what to ask.
        decoding: how tokens are chosen.
        dtype: dtype of the matrix products.
    """
    tokens, lines = [one.tokens for one in questions], [one.lines for one in questions]
    outputs = generate(model, tokenizer, tokens, lines, decoding, dtype)
    return [
        Answer(question, output.text, scores_of(question, output))
        for question, output in zip(questions, outputs, strict=True)
    ]


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run's `samples.jsonl`, by step; none if there is no such file."""
    return read_json_lines(run_dir / SAMPLES, skip_torn=True)


def write_rows(run_dir: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write them all in one step, so that a kill tears none."""
    write_json_lines(run_dir / SAMPLES, rows)


def history(rows: Sequence[dict[str, Any]], step: int) -> dict[str, Any] | None:
    """The manifest's `generation` entry: the scores by task at each step, and at the one whose weights were saved.

    Args:
        rows: of `samples.jsonl`.
        step: whose weights were saved.
    """
    steps = [
        {"step": at, "tasks": by_task((row["task"], row["scores"]) for row in some)}
        for at, some in groupby(rows, key=lambda row: row["step"])
    ]
    saved = next((entry["tasks"] for entry in steps if entry["step"] == step), None)
    return {"step": step, "tasks": saved, "history": steps} if steps else None
