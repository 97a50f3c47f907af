"""Cuts the text around a cursor so that the cut stays in place while somebody types.

The model keeps keys and values of the last prompt up to the first token that differs. A cut that moves with the cursor
would change the beginning of the text, and all of it would have to be read again.
"""

from collections.abc import Sequence
from itertools import accumulate
from zlib import crc32

from transformers import PreTrainedTokenizerBase

SUFFIX_PART = 4  # of the room; the text before the cursor gets the rest, and what the other does not need
STEP = 128  # tokens in which the room for the text after the cursor grows, where little stands before it
ANCHORS = 8  # one of so many lines may become the first, by its checksum: the same lines wherever the text begins


def around_cursor(before: str, after: str, room: int, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Cut the texts before and after a cursor so that both fit into `room` tokens together."""
    begins, ends = _begins(before, tokenizer), _begins(after, tokenizer)
    used = -(-(len(begins) - 1) // STEP) * STEP
    after = _first_lines(after, ends, max(room // SUFFIX_PART, room - used))
    left = room - sum(end <= len(after) for end in ends[1:])
    return _last_lines(before, begins, max(0, left)), after


def _last_lines(text: str, begins: Sequence[int], tokens: int) -> str:
    """Return the end of a text, from one of its anchors on.

    Without an anchor in the farther half of what fits, any line may be the first; without a line, any token.
    """
    surplus = len(begins) - 1 - tokens
    if surplus <= 0:
        return text
    first, middle = begins[surplus], begins[surplus + tokens // 2]
    starts = [at + 1 for at in range(max(0, first - 1), middle) if text[at] == "\n"]
    anchors = [at for at in starts if _is_anchor(text[at:].partition("\n")[0])]
    return text[next(iter([*anchors, *starts, first])) :]


def _is_anchor(line: str) -> bool:
    return bool(line.strip()) and crc32(line.encode()) % ANCHORS == 0


def _first_lines(text: str, begins: Sequence[int], tokens: int) -> str:
    """Return the beginning of a text up to the end of a line; the first line may be cut."""
    if len(begins) - 1 <= tokens:
        return text
    end = begins[tokens]
    return text[: text.rfind("\n", 0, end) + 1 or end]


def _begins(text: str, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
    """Return the start of each token in characters, and the end of the last."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [0, *accumulate((end for _, end in offsets), max)]
