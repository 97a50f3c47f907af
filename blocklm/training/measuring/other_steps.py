"""Measures the steps that do not train: an evaluation, an exam batch, and answers; with all that a training holds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from trl import SFTTrainer

from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import REHEARSED, generate, rehearse
from blocklm.models.likelihood import scored_bits
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.encode import IGNORED, Encoded
from blocklm.training.measuring.allocator import Meter, held_tensors, optimizer_tensors

TOKEN = 1
SCORED = 64  # tokens of each row whose bits are measured
TIMED = 8  # tokens of the answers that are timed


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the exam's batches and the answers become.

    Attributes:
        exam_rows: rows of an exam batch.
        exam_length: tokens of such a row.
        prompt: tokens of a prompt.
        answers: prompts that are answered together, if they fit into a batch.
        written: tokens of an answer.
    """

    exam_rows: int
    exam_length: int
    prompt: int
    answers: int
    written: int


@dataclass(frozen=True, slots=True)
class OtherSteps:
    """Peaks in bytes, and speeds in tokens a second."""

    evaluation: int
    exam: int
    answers: int
    read: float
    prompt: float
    written: float


def measure_other_steps(trainer: SFTTrainer, meter: Meter, sizes: Sizes, dtype: torch.dtype) -> OtherSteps:
    """Run an evaluation step, an exam batch and a batch of answers, each once for its peak and once for its time.

    Args:
        trainer: a trainer after its last step, which still holds the optimizer's state.
        meter: reads the allocator.
        sizes: sizes of the exam's batches and of the answers.
        dtype: dtype of the matrix products.
    """
    loaded = LoadedModel(trainer.model, trainer.processing_class, dtype)
    labels = [IGNORED] * (sizes.exam_length - SCORED) + [TOKEN] * min(SCORED, sizes.exam_length)
    labels = labels[-sizes.exam_length :]
    row = Encoded([TOKEN] * sizes.exam_length, labels, [label != IGNORED for label in labels], trimmed=False)
    prompts = [[TOKEN] * sizes.prompt] * sizes.answers

    def exam() -> None:
        list(scored_bits(loaded, [row] * sizes.exam_rows, "exam"))

    def answers() -> None:
        rehearse(loaded, prompts, Decoding(sizes.written))

    def answer(tokens: int) -> Callable[[], object]:
        return lambda: generate(loaded, prompts, Decoding(tokens, may_end=False))

    held = [*held_tensors(trainer.model), *optimizer_tensors(trainer.optimizer)]
    with meter.recording(held) as peaks:
        for name, run in (("evaluation", trainer.evaluate), ("exam", exam), ("answers", answers)):
            meter.mark(name)
            run()
            meter.mark("")
    exam_seconds = _seconds(exam)
    short, long = _seconds(answer(REHEARSED)), _seconds(answer(REHEARSED + TIMED))
    a_token = max(1e-6, (long - short) / TIMED)
    return OtherSteps(
        **{name: peaks[name] for name in ("evaluation", "exam", "answers")},
        read=sizes.exam_rows * sizes.exam_length / exam_seconds,
        prompt=sizes.answers * sizes.prompt / max(1e-6, short - REHEARSED * a_token),
        written=sizes.answers / a_token,
    )


def _seconds(run: Callable[[], object]) -> float:
    before = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - before
