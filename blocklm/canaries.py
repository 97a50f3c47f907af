"""Canaries: made-up codes among the training samples, by which it can be measured what a model keeps of a single line.

After Carlini et al. 2019, "The Secret Sharer": the exposure of a code is how far the model prefers it to others of the same
form that it never saw, in bits. It follows from the recipe's seed, so that an audit can ask for it later.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.encoding import encode
from blocklm.reading import ReadingList

DIGITS = 6
OTHERS = 255  # codes that were never shown, for each canary: its exposure is 8 bits at most
BATCH = 64
# By chance one of eight canaries ranks first of 256 in 3 % of all audits, two of them in 0.04 %.
FIRST_BY_CHANCE = 1


@dataclass(frozen=True)
class Canary:
    """A line that ends in a code."""

    prompt: str
    code: str


def canaries_of(seed: int, count: int) -> list[Canary]:
    """The canaries of a run, the same at every call."""
    chance = random.Random(f"canaries of {seed}")
    return [Canary(f'ACCESS_CODE_{chance.getrandbits(24):06X} = "', _code(chance)) for _ in range(count)]


def plant(
    reading: ReadingList, tokenizer: PreTrainedTokenizerBase, seed: int, count: int, max_length: int
) -> ReadingList:
    """Put each canary once into every epoch, in the place of another row, so that steps and schedule stay.

    A last epoch that is cut short may miss some.
    """
    if not count:
        return reading
    found = canaries_of(seed, count)
    encoded = encode(
        {
            "prompt": [canary.prompt for canary in found],
            "context": [(0, 0)] * count,
            "completion": [f'{canary.code}"\n' for canary in found],
            "added": [[]] * count,
        },
        tokenizer,
        max_length,
    )
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for one in encoded:
        assert one is not None, "a canary is short"
        rows["input_ids"].append(one.input_ids)
        rows["labels"].append(one.labels)
    if "seq_lengths" in reading.dataset.column_names:  # packed: the row is a document alone
        rows["seq_lengths"] = [[len(ids)] for ids in rows["input_ids"]]
    planted = concatenate_datasets([reading.dataset, Dataset.from_dict(rows, features=reading.dataset.features)])
    chance, order = random.Random(f"places of {seed}"), list(reading.order)
    for start in range(0, len(order), reading.epoch_size):
        places = range(start, min(start + reading.epoch_size, len(order)))
        chosen = chance.sample(places, min(count, len(places)))
        for at, place in enumerate(chosen):
            order[place] = len(reading.dataset) + at
    return replace(reading, dataset=planted, order=order, report=reading.report | {"canaries": count})


@torch.no_grad()
def exposures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, planted: list[Canary], seed: int
) -> list[float]:
    """The exposure of each canary in bits: log2 of 256 over its rank by likelihood among 255 codes that were never shown.

    A model that learned nothing of them gives 1.4 on average, one that knows a code by heart 8.
    """
    chance = random.Random(f"others of {seed}")
    model.eval()
    found = []
    for canary in planted:
        codes = [canary.code, *(_code(chance) for _ in range(OTHERS))]
        costs = [cost for some in _batches(codes) for cost in _costs(model, tokenizer, canary.prompt, some)]
        rank = 1 + sum(cost <= costs[0] for cost in costs[1:])
        found.append(log2((OTHERS + 1) / rank))
    return found


def _costs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, codes: list[str]) -> list[float]:
    """What each code costs after the prompt, in nats."""
    start = tokenizer("").input_ids + tokenizer(prompt, add_special_tokens=False).input_ids
    ends = tokenizer([f'{code}"' for code in codes], add_special_tokens=False).input_ids
    width = max(map(len, ends))
    device = next(model.parameters()).device
    ids = torch.tensor([end + [tokenizer.eos_token_id] * (width - len(end)) for end in ends], device=device)
    target = torch.tensor([end + [-100] * (width - len(end)) for end in ends], device=device)
    before = model(input_ids=torch.tensor([start], device=device), use_cache=True)  # read once for all codes
    before.past_key_values.batch_repeat_interleave(len(codes))
    after = model(input_ids=ids, past_key_values=before.past_key_values, use_cache=True)
    first = before.logits[:, -1:].expand(len(codes), -1, -1)
    logits = torch.cat([first, after.logits[:, :-1]], dim=1).float()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none", ignore_index=-100)
    return [float(cost) for cost in nats.sum(dim=1)]


def _batches(codes: list[str]) -> Iterator[list[str]]:
    return (codes[at : at + BATCH] for at in range(0, len(codes), BATCH))


def _code(chance: random.Random) -> str:
    return f"{chance.randrange(10**DIGITS):0{DIGITS}d}"
