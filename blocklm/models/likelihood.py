"""Measures how likely a model finds texts: scored tokens of rows in bits, continuations of a prompt in nats."""

import inspect
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from accelerate.utils import find_executable_batch_size
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedModel

from blocklm.models.cpu_threads import computes_rows_apart, side_by_side
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.encode import Encoded
from blocklm.models.tokenization.token_healing import healing_of

BATCH = 32  # continuations
BATCH_TOKENS = 2048  # of rows, padded


def bits_of_rows(
    loaded: LoadedModel, rows: Sequence[Encoded], name: str | None, batch_tokens: int = BATCH_TOKENS
) -> list[float]:
    """Measure the bits that the model needs for the scored tokens of each row, in the order of `rows`."""
    bits = dict(scored_bits(loaded, rows, name, batch_tokens))
    return [sum(bits[place]) for place in range(len(rows))]


def scored_bits(
    loaded: LoadedModel, rows: Sequence[Encoded], name: str | None, batch_tokens: int = BATCH_TOKENS
) -> Generator[tuple[int, list[float]], None, None]:
    """Yield the place of each row with the bits that the model needs for each scored token, the longest rows first.

    A token that writes the end of the prompt again is measured among the tokens that fit there, because an answer is
    held to that end: it costs no bits to know it. A CPU computes one row on each core, other devices batches of rows.

    Args:
        loaded: the model; it is put into evaluation mode.
        rows: token ids, and which of them are scored.
        name: title of the progress bar; None for no bar.
        batch_tokens: most tokens of a batch with its padding; a longer row is a batch of its own.
    """
    loaded.model.eval()
    apart = computes_rows_apart(loaded.model)
    batches = list(_batches(rows, 1 if apart else batch_tokens))
    costs = (side_by_side if apart else map)(lambda places: _batch_bits(loaded, [rows[at] for at in places]), batches)
    hidden = None if name else True  # None: unless stderr is a terminal
    with tqdm(total=len(rows), desc=name, unit=" items", disable=hidden) as progress:
        for places, bits in zip(batches, costs, strict=True):
            yield from zip(places, bits, strict=True)
            progress.update(len(places))


@torch.no_grad()
def continuation_nll(loaded: LoadedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    """Measure the negative log-likelihood, in nats, of each ending after the prompt.

    The prompt is computed once, and its cache copied for each ending. Batches become smaller where memory runs out.

    Args:
        loaded: the model, in evaluation mode.
        prompt: token ids.
        endings: token ids, at least one each.
    """
    with loaded.autocast():
        nats: list[float] = find_executable_batch_size(_in_batches, starting_batch_size=BATCH)(loaded, prompt, endings)
    return nats


def _in_batches(
    batch: int, loaded: LoadedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]
) -> list[float]:
    return [
        nats
        for start in range(0, len(endings), batch)
        for nats in _batch(loaded, prompt, endings[start : start + batch])
    ]


def _batch(loaded: LoadedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    model, device = loaded.model, loaded.device
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


def _batches(rows: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows of similar length, longest first: one row, or at most `tokens` padded tokens."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].input_ids))
    while order:
        longest = len(rows[order[0]].input_ids)
        count = max(1, tokens // longest)
        yield order[:count]
        order = order[count:]


@torch.no_grad()
def _batch_bits(loaded: LoadedModel, rows: Sequence[Encoded]) -> list[list[float]]:
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), loaded.pad_token_id)
    mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        length = len(row.input_ids)
        ids[number, :length] = torch.tensor(row.input_ids)
        mask[number, :length] = 1
        scored[number, :length] = torch.tensor(row.scored)
    ids, mask, scored = ids.to(loaded.device), mask.to(loaded.device), scored.to(loaded.device)
    places, columns = torch.nonzero(scored[:, 1:], as_tuple=True)
    kept = torch.unique(columns)
    with loaded.autocast():
        logits = _logits_at(loaded.model, kept, input_ids=ids, attention_mask=mask)
    picked = logits[places, torch.searchsorted(kept, columns)].float()  # only the scored positions are raised to fp32
    nats = torch.nn.functional.cross_entropy(picked, ids[places, columns + 1], reduction="none")
    counts = torch.bincount(places, minlength=len(rows)).tolist()
    for row, first in zip(rows, accumulate(counts, initial=0), strict=False):
        for number, target, fitting in _held_tokens(row, loaded):
            among = picked[first + number]
            nats[first + number] = among[fitting].logsumexp(0) - among[target]
    return [part.tolist() for part in torch.split(nats / np.log(2), counts)]


def _held_tokens(row: Encoded, loaded: LoadedModel) -> Iterator[tuple[int, int, list[int]]]:
    """Yield the number of each scored token that writes the end of the prompt again, the token, and those that fit."""
    if row.tail and row.scored[row.prompt_tokens]:
        healing, target = healing_of(loaded.tokenizer), row.input_ids[row.prompt_tokens :]
        raw = healing.spelling(row.tail)
        for number, token in enumerate(target):
            fitting = healing.allowed(raw, target[:number])
            if fitting is None:
                return
            yield number, token, fitting


def _logits_at(model: PreTrainedModel, columns: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Compute the logits of a batch at some columns; those of all columns would be the largest product of a batch."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return logits
    every: torch.Tensor = model(**inputs, use_cache=False).logits
    return every[:, columns]
