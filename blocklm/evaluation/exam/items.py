"""Makes the exam's questions: test samples with their tokens, and the slices of the result that they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from blocklm.models.tokenization.encode import Encoded, encode

QUERY_CHARS = 1000
LENGTHS = ((10, "to 10 characters"), (40, "11 to 40 characters"), (None, "over 40 characters"))


@dataclass(frozen=True, slots=True)
class ExamItem:
    """One exam question: a test sample with its tokens and the number of bytes that its commit added.

    `text` is the query of a search: the path and the text before the answer. `slices` names the question's part in each
    division of all questions.
    """

    id: str
    commit: str
    path: str
    language: str | None
    added_bytes: int
    encoded: Encoded
    text: str = ""
    answer: str = ""
    slices: Mapping[str, str] | None = None


def exam_items(
    samples: Mapping[str, Sequence[Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    retrieved_length: int = 0,
) -> list[ExamItem]:
    """Encode columns of samples, as `encode`; one that added nothing or does not fit in `max_length` is left out."""
    items = []
    for number, encoded in enumerate(encode(samples, tokenizer, max_length, retrieved_length)):
        if encoded is not None and len(samples["added"][number]):
            row = {key: column[number] for key, column in samples.items()}
            completion, added = row["completion"], row["added"]
            spans = list(zip(added[::2], added[1::2], strict=True))
            size = sum(len(completion[begin:end].encode("utf-8", "surrogatepass")) for begin, end in spans)
            begin, end = row["context"]
            slices = _slices(row, sum(end - begin for begin, end in spans), end - begin)
            items.append(
                ExamItem(
                    row["id"],
                    row["commit"],
                    row["path"],
                    row["language"],
                    size,
                    encoded,
                    query_of(row),
                    completion,
                    slices,
                )
            )
    return items


def query_of(sample: Mapping[str, Any]) -> str:
    """Return what is searched for at a sample: its path and the text before its completion."""
    begin, end = sample["context"]
    shown = sample["prompt"][begin:end] or sample["prompt"]
    return f"{sample['path']}\n{shown[-QUERY_CHARS:]}"


def _slices(row: Mapping[str, Any], added: int, before: int) -> dict[str, str]:
    folder, _, _ = row["path"].rpartition("/")
    slices = {
        "language": row["language"] or "none",
        "folder": "/".join(folder.split("/")[:2]) or ".",
        "length": next(name for limit, name in LENGTHS if limit is None or added <= limit),
    }
    if row.get("view") == "edit":  # its context is the old text: lines that the completion lacks were removed
        slices["kind"] = "replaces" if before > len(row["completion"]) - added else "inserts"
    if "view" in row:
        slices["view"] = row["view"]
    if "seen_lines" in row:
        slices["lines"] = "all seen in training" if row["seen_lines"] else "some new"
    return slices
