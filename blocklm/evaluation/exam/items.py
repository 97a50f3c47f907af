"""Makes the exam's questions: test samples with their tokens, and the slices of the result that they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from blocklm.models.tokenization import Encoded, encode

LENGTHS = ((10, "to 10 characters"), (40, "11 to 40 characters"), (None, "over 40 characters"))


@dataclass(frozen=True, slots=True)
class ExamItem:
    """One exam question: a test sample with its tokens and the number of bytes that its commit added.

    `text` is the query of a search: the path and the end of the prompt, without the answer. `start` is the number of
    tokens before the prompt (BOS). `slices` names the question's part in each division of all questions.
    """

    id: str
    commit: str
    path: str
    language: str | None
    added_bytes: int
    encoded: Encoded
    text: str = ""
    start: int = 0
    slices: Mapping[str, str] | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens of question and answer together."""
        return len(self.encoded.input_ids)

    def after(self, context: list[int]) -> "ExamItem":
        """Put `context` before the question."""
        ids, head = self.encoded.input_ids, self.start
        scored = self.encoded.scored
        longer = replace(
            self.encoded,
            input_ids=ids[:head] + context + ids[head:],
            labels=[],
            scored=scored[:head] + [False] * len(context) + scored[head:],
        )
        return replace(self, encoded=longer)


def exam_items(
    samples: Mapping[str, Sequence[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[ExamItem]:
    """Encode columns of samples; a sample whose target does not fit in `max_length` tokens is left out for all arms."""
    items = []
    start = len(tokenizer("").input_ids)
    for number, encoded in enumerate(encode(samples, tokenizer, max_length)):
        if encoded is not None:
            row = {key: column[number] for key, column in samples.items()}
            completion, added = row["completion"], row["added"]
            spans = list(zip(added[::2], added[1::2], strict=True))
            size = sum(len(completion[begin:end].encode("utf-8", "surrogatepass")) for begin, end in spans)
            begin, end = row["context"]
            text = f"{row['path']}\n{row['prompt'][begin:end]}"
            slices = _slices(row, sum(end - begin for begin, end in spans), end - begin)
            items.append(
                ExamItem(row["id"], row["commit"], row["path"], row["language"], size, encoded, text, start, slices)
            )
    return items


def _slices(row: Mapping[str, Any], added: int, before: int) -> dict[str, str]:
    folder, _, _ = row["path"].rpartition("/")
    slices = {
        "language": row["language"] or "none",
        "folder": "/".join(folder.split("/")[:2]) or ".",
        "length": next(name for limit, name in LENGTHS if limit is None or added <= limit),
    }
    if row.get("view") == "edit":  # its context is the old text: lines that the completion lacks were removed
        slices["kind"] = "replaces" if before > len(row["completion"]) - added else "inserts"
    if "seen_lines" in row:
        slices["lines"] = "all seen in training" if row["seen_lines"] else "some new"
    return slices
