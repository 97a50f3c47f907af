"""Score base and tuned model on the commits after the split, and say how sure the difference is.

A top-up is also compared with the run that it goes on from.

The measure is bits per byte of the text a commit added, given the path, the subject and the lines around it: the
negative log2 probability of the added tokens over the UTF-8 bytes of the added text, summed over all items (as in
lm-evaluation-harness, `bits_per_byte`). Both arms see the same tokens. The interval is a paired bootstrap that
resamples commits, because samples of one commit are not independent (Efron and Tibshirani 1993).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.encoding import Encoded, encode
from blocklm.errors import UserError
from blocklm.recipe import ExamArguments
from blocklm.splits import spread_over_commits

SEED = 0  # of the choice of items and of the bootstrap: the same questions for every run on the same commits
RESAMPLES = 2000
BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Item:
    """One exam question: a test sample with its tokens and the number of bytes its commit added."""

    id: str
    commit: str
    path: str
    language: str | None
    added_bytes: int
    encoded: Encoded


def run_exam(
    test: Dataset,
    view: str,
    tokenizer: PreTrainedTokenizerBase,
    tuned: PreTrainedModel,
    base: AbstractContextManager[PreTrainedModel],
    dtype: torch.dtype,
    max_length: int,
    limits: ExamArguments,
    previous: AbstractContextManager[PreTrainedModel] | None = None,
) -> dict[str, Any]:
    """Ask all arms the same questions and compare them.

    Args:
        test: samples of the test split.
        view: the one of its views that asks.
        tokenizer: of all arms.
        tuned: the tuned model; scored first, because entering `base` may replace it.
        base: opens the model as it was before training.
        dtype: dtype of the matrix products.
        max_length: tokens a sample may have.
        limits: how many items, and how many of one commit.
        previous: opens the model as the run left it that this one goes on from; None where it began anew.

    Raises:
        UserError: no test sample fits into `max_length`.
    """
    test = test.select([at for at, asked in enumerate(test["view"][:]) if asked == view])
    heard = spread_over_commits(test["commit"][:], limits.exam_items, limits.exam_items_per_commit, SEED)
    items = exam_items(test.select(heard)[:], tokenizer, max_length)
    if not items:
        raise UserError(f"no test sample fits into `max_length` {max_length}", "raise `max_length` in the recipe")
    tuned_bits = added_bits(tuned, items, tokenizer.pad_token_id, dtype, "tuned")
    with base as base_model:
        base_bits = added_bits(base_model, items, tokenizer.pad_token_id, dtype, "base")
    if previous is None:
        return compare(items, base_bits, tuned_bits)
    with previous as previous_model:
        previous_bits = added_bits(previous_model, items, tokenizer.pad_token_id, dtype, "previous")
    return compare(items, base_bits, tuned_bits, previous_bits)


def exam_items(
    samples: Mapping[str, Sequence[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Item]:
    """Encode columns of samples; those whose target does not fit in `max_length` are left out for both arms alike."""
    items = []
    for at, encoded in enumerate(encode(samples, tokenizer, max_length)):
        if encoded is not None:
            name, commit, path, language = (samples[key][at] for key in ("id", "commit", "path", "language"))
            completion, added = samples["completion"][at], samples["added"][at]
            spans = zip(added[::2], added[1::2], strict=True)
            size = sum(len(completion[start:end].encode("utf-8", "surrogatepass")) for start, end in spans)
            items.append(Item(name, commit, path, language, size, encoded))
    return items


def added_bits(
    model: PreTrainedModel, items: list[Item], pad_token_id: int, dtype: torch.dtype, name: str
) -> list[float]:
    """Bits the model needs for the added tokens of each item, in the order of `items`.

    Args:
        model: any causal language model; it is put into evaluation mode.
        items: what to score.
        pad_token_id: fills the batches; never scored.
        dtype: dtype of the matrix products; bits are summed in fp32.
        name: the arm, shown on the progress bar.
    """
    device = next(model.parameters()).device
    bits = [0.0] * len(items)
    model.eval()
    with (
        torch.no_grad(),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        tqdm(total=len(items), desc=f"exam: {name}", unit=" items", disable=None) as progress,
    ):
        for batch in _batches(items):
            for at, item_bits in zip(
                batch, _batch_bits(model, [items[at] for at in batch], pad_token_id, device), strict=True
            ):
                bits[at] = item_bits
            progress.update(len(batch))
    return bits


def compare(
    items: list[Item], base: list[float], tuned: list[float], previous: list[float] | None = None
) -> dict[str, Any]:
    """The exam's result: bits per byte of the arms, the change in percent and its 95 % interval.

    A negative `delta_percent` means that the tuned model needs fewer bits. `verdict` is `better`, `worse` or
    `no detectable change` when the interval covers 0. With `previous`, `against_previous` says the same of that arm.
    """
    arms = {"base": base, "tuned": tuned} | ({"previous": previous} if previous is not None else {})
    size = [item.added_bytes for item in items]
    per_commit: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(arms) + 1))
    for item, row in zip(items, np.array([*arms.values(), size], dtype=np.float64).T, strict=True):
        per_commit[item.commit] += row
    totals = np.stack(list(per_commit.values()))
    if not np.isfinite(totals).all():
        raise UserError(
            "a model gives no finite probability to the test text: it has diverged",
            "lower `learning_rate` and train again into another `output_dir`",
        )
    return {
        "commits": len(per_commit),
        "items": len(items),
        "added_bytes": sum(size),
        **{name: {"bits_per_byte": float(sum(bits) / sum(size))} for name, bits in arms.items()},
        **_change(totals[:, [0, 1]]),
        **({"against_previous": _change(totals[:, [2, 1]])} if previous is not None else {}),
        "per_item": [
            {
                "id": i.id,
                "commit": i.commit,
                "path": i.path,
                "language": i.language,
                "bytes": i.added_bytes,
                **{f"{name}_bits": bits[at] for name, bits in arms.items()},
            }
            for at, i in enumerate(items)
        ],
    }


def _change(totals: np.ndarray) -> dict[str, Any]:
    """The change in percent from one arm to another, with its interval and verdict; `totals` is commits by (from, to)."""
    low, high = _interval(totals)
    before, after = totals.sum(axis=0)
    return {
        "delta_percent": float(100 * (after / before - 1)),
        "ci95": [low, high],
        "verdict": "better" if high < 0 else "worse" if low > 0 else "no detectable change",
    }


def _interval(totals: np.ndarray) -> tuple[float, float]:
    """2.5 and 97.5 percentile of the change in percent over resampled commits; `totals` is commits by (from, to)."""
    generator = np.random.default_rng(SEED)
    picks = generator.integers(0, len(totals), size=(RESAMPLES, len(totals)))
    sums = totals[picks].sum(axis=1)
    low, high = np.percentile(100 * (sums[:, 1] / sums[:, 0] - 1), [2.5, 97.5])
    return float(low), float(high)


def _batches(items: list[Item]) -> Iterator[list[int]]:
    """Indices of items of similar length, longest first, at most `BATCH_TOKENS` padded tokens or one item."""
    order = sorted(range(len(items)), key=lambda at: -len(items[at].encoded.input_ids))
    while order:
        longest = len(items[order[0]].encoded.input_ids)
        count = max(1, BATCH_TOKENS // longest)
        yield order[:count]
        order = order[count:]


def _batch_bits(model: PreTrainedModel, items: list[Item], pad_token_id: int, device: torch.device) -> list[float]:
    longest = max(len(item.encoded.input_ids) for item in items)
    ids = torch.full((len(items), longest), pad_token_id)
    mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, item in enumerate(items):
        count = len(item.encoded.input_ids)
        ids[row, :count] = torch.tensor(item.encoded.input_ids)
        mask[row, :count] = 1
        scored[row, :count] = torch.tensor(item.encoded.scored)
    ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    rows, columns = torch.nonzero(scored[:, 1:], as_tuple=True)
    picked = logits[rows, columns].float()  # only the scored positions are raised to fp32
    nats = torch.nn.functional.cross_entropy(picked, ids[rows, columns + 1], reduction="none")
    totals = torch.zeros(len(items), device=device).index_add_(0, rows, nats)
    return [float(total) for total in totals / np.log(2)]
