"""How likely a model finds texts: bits of the scored tokens of rows, nats of several continuations of one prompt."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate.utils import find_executable_batch_size
from tqdm import tqdm
from transformers import PreTrainedModel

from blocklm.models.tokenization import Encoded

BATCH = 32  # continuations
BATCH_TOKENS = 2048  # of rows, padded


def bits_of_rows(
    model: PreTrainedModel, rows: Sequence[Encoded], pad_token_id: int, dtype: torch.dtype, name: str
) -> list[float]:
    """Bits the model needs for the scored tokens of each row, in the order of `rows`."""
    found = dict(scored_bits(model, rows, pad_token_id, dtype, name))
    return [found[at] for at in range(len(rows))]


def scored_bits(
    model: PreTrainedModel, rows: Sequence[Encoded], pad_token_id: int, dtype: torch.dtype, name: str
) -> Iterator[tuple[int, float]]:
    """Yield the place of each row with the bits that the model needs for its scored tokens, the longest rows first.

    Args:
        model: any causal language model; it is put into evaluation mode.
        rows: token ids, and which of them are scored.
        pad_token_id: fills the batches; never scored.
        dtype: dtype of the matrix products; bits are summed in fp32.
        name: what the progress bar says.
    """
    device = next(model.parameters()).device
    model.eval()
    with (
        torch.no_grad(),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        tqdm(total=len(rows), desc=name, unit=" items", disable=None) as progress,
    ):
        for places in _batches(rows):
            yield from zip(places, _batch_bits(model, [rows[at] for at in places], pad_token_id, device), strict=True)
            progress.update(len(places))


@torch.no_grad()
def continuation_nll(model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    """The nats that a model in evaluation mode needs for each ending, each of at least one token, after the prompt.

    Each ending has the prompt's cache to itself; where memory does not hold that of a batch, it becomes smaller.
    """
    found: list[float] = find_executable_batch_size(_in_batches, starting_batch_size=BATCH)(model, prompt, endings)
    return found


def _in_batches(
    batch: int, model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]
) -> list[float]:
    return [cost for at in range(0, len(endings), batch) for cost in _batch(model, prompt, endings[at : at + batch])]


def _batch(model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    device = next(model.parameters()).device
    width = max(map(len, endings))
    ids = torch.tensor([[*end, *[0] * (width - len(end))] for end in endings], device=device)
    target = torch.tensor([[*end, *[-100] * (width - len(end))] for end in endings], device=device)
    before = model(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True)
    before.past_key_values.batch_repeat_interleave(len(endings))
    after = model(input_ids=ids, past_key_values=before.past_key_values, use_cache=True)
    first = before.logits[:, -1:].expand(len(endings), -1, -1)
    logits = torch.cat([first, after.logits[:, :-1]], dim=1).float()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none", ignore_index=-100)
    return [float(cost) for cost in nats.sum(dim=1)]


def _batches(rows: Sequence[Encoded]) -> Iterator[list[int]]:
    """Places of rows of similar length, longest first, at most `BATCH_TOKENS` padded tokens or one row."""
    order = sorted(range(len(rows)), key=lambda at: -len(rows[at].input_ids))
    while order:
        longest = len(rows[order[0]].input_ids)
        count = max(1, BATCH_TOKENS // longest)
        yield order[:count]
        order = order[count:]


def _batch_bits(
    model: PreTrainedModel, rows: Sequence[Encoded], pad_token_id: int, device: torch.device
) -> list[float]:
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), pad_token_id)
    mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for at, row in enumerate(rows):
        count = len(row.input_ids)
        ids[at, :count] = torch.tensor(row.input_ids)
        mask[at, :count] = 1
        scored[at, :count] = torch.tensor(row.scored)
    ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    places, columns = torch.nonzero(scored[:, 1:], as_tuple=True)
    picked = logits[places, columns].float()  # only the scored positions are raised to fp32
    nats = torch.nn.functional.cross_entropy(picked, ids[places, columns + 1], reduction="none")
    totals = torch.zeros(len(rows), device=device).index_add_(0, places, nats)
    return [float(total) for total in totals / np.log(2)]
