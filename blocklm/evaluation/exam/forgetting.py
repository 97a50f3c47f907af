"""What tuning cost elsewhere: bits per byte of general text and code, before and after.

The texts in `general_texts/` were written for this purpose, so that no licence and no training set holds them: prose, and
programs in nine languages. Where the tuned model needs more than 3 % more bits for them, it has forgotten.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from transformers import PreTrainedTokenizerBase

from blocklm.evaluation.exam.items import ExamItem, exam_items

LIMIT_PERCENT = 3.0
PIECE_CHARS = 900  # some 300 tokens
MOST_TOKENS = 1024


def general_items(tokenizer: PreTrainedTokenizerBase, positions: int | None) -> list[ExamItem]:
    """The texts in pieces that a model of so many positions reads at once; the first line is given, the rest is asked."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("id", "prompt", "context", "completion", "added", "commit", "path", "language")
    }
    for name, text in _texts():
        for number, piece in enumerate(_pieces(text)):
            first, rest = piece[0], "".join(piece[1:])
            row = (f"{name}:{number}", first, [0, len(first)], rest, [0, len(rest)], name, name, None)
            for key, value in zip(columns, row, strict=True):
                columns[key].append(value)
    return exam_items(columns, tokenizer, min(positions or MOST_TOKENS, MOST_TOKENS))


def measure_forgetting(items: Sequence[ExamItem], bits: dict[str, list[float]]) -> dict[str, Any] | None:
    """Base and tuned model on the general texts: bits per byte, the rise in percent, and whether it is flagged.

    None if the model reads too few tokens at once for any of them.

    Args:
        items: the questions.
        bits: of `base` and `tuned` for each.
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
    here = [at for at, item in enumerate(items) if item.path == name]
    return sum(bits[at] for at in here) / sum(items[at].added_bytes for at in here)


def _pieces(text: str) -> Iterator[list[str]]:
    """The lines of a text in runs of about `PIECE_CHARS`."""
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
