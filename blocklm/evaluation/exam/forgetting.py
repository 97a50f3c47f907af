"""Measures forgetting: bits per byte of general text and code before and after tuning.

The texts in `general_texts/`, prose and programs in nine languages, were written for this purpose, so that they have no
licence and are in no training set. A tuned model that needs over 3 % more bits for them is flagged.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from transformers import PreTrainedTokenizerBase

from blocklm.evaluation.exam.items import ExamItem, exam_items

LIMIT_PERCENT = 3.0
PIECE_CHARS = 900  # about 300 tokens
MAX_TOKENS = 1024


def general_items(tokenizer: PreTrainedTokenizerBase, positions: int | None) -> list[ExamItem]:
    """Cut the texts into pieces that the model can read at once, and ask for all lines of a piece but the first.

    Args:
        tokenizer: the model's tokenizer.
        positions: maximum tokens that the model can read; None if unknown.
    """
    columns: dict[str, list[Any]] = {
        key: [] for key in ("id", "prompt", "context", "completion", "added", "commit", "path", "language")
    }
    for name, text in _texts():
        for number, piece in enumerate(_pieces(text)):
            first, rest = piece[0], "".join(piece[1:])
            row = (f"{name}:{number}", first, [0, len(first)], rest, [0, len(rest)], name, name, None)
            for key, value in zip(columns, row, strict=True):
                columns[key].append(value)
    return exam_items(columns, tokenizer, min(positions or MAX_TOKENS, MAX_TOKENS))


def measure_forgetting(items: Sequence[ExamItem], bits: dict[str, list[float]]) -> dict[str, Any] | None:
    """Compare base and tuned model on the general texts: bits per byte, rise in percent, and whether it is flagged.

    Args:
        items: the questions from `general_items`.
        bits: bits of each question, by `base` and `tuned`.

    Returns:
        The exam's `forgetting`; None if there are no questions, because the model reads too few tokens at once.
    """
    if not items:
        return None
    size = sum(item.added_bytes for item in items)
    base, tuned = (sum(bits[arm]) / size for arm in ("base", "tuned"))
    rise = 100 * (tuned / base - 1)
    return {
        "bytes": size,
        "base": base,
        "tuned": tuned,
        "rise_percent": rise,
        "flagged": rise > LIMIT_PERCENT,
        "texts": {
            name: {arm: _per_byte(items, bits[arm], name) for arm in ("base", "tuned")}
            for name in sorted({item.path for item in items})
        },
    }


def _per_byte(items: Sequence[ExamItem], bits: Sequence[float], name: str) -> float:
    rows = [row for row, item in enumerate(items) if item.path == name]
    return sum(bits[row] for row in rows) / sum(items[row].added_bytes for row in rows)


def _pieces(text: str) -> Iterator[list[str]]:
    """Yield the lines of a text in groups of about `PIECE_CHARS` characters."""
    piece: list[str] = []
    for line in text.splitlines(keepends=True):
        if sum(map(len, piece)) + len(line) > PIECE_CHARS and len(piece) > 1:
            yield piece
            piece = []
        piece.append(line)
    if len(piece) > 1:
        yield piece


def _texts() -> Iterator[tuple[str, str]]:
    folder = files("blocklm.evaluation.exam") / "general_texts"
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".txt"):
            yield path.name.removesuffix(".txt"), path.read_text(encoding="utf-8")
