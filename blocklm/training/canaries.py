"""Puts canaries among the training samples: lines with made-up codes, which the audit asks for later."""

import random
from dataclasses import replace
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from blocklm.evaluation.canaries import Canaries
from blocklm.models.tokenization.encode import encode
from blocklm.training.data_order import TrainingOrder


def plant_canaries(
    reading: TrainingOrder, tokenizer: PreTrainedTokenizerBase, canaries: Canaries, max_length: int
) -> TrainingOrder:
    """Put each canary once into every epoch, in place of another row, so that the number of steps does not change.

    A partial last epoch may have fewer.
    """
    if not canaries.count:
        return reading
    planted = canaries.planted()
    encoded = encode(
        {
            "prompt": [canary.prompt for canary in planted],
            "context": [(0, 0)] * canaries.count,
            "completion": [f'{canary.code}"\n' for canary in planted],
            "added": [[]] * canaries.count,
        },
        tokenizer,
        max_length,
    )
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for sample in encoded:
        assert sample is not None, "a canary is short"
        rows["input_ids"].append(sample.input_ids)
        rows["labels"].append(sample.labels)
    if "seq_lengths" in reading.dataset.column_names:  # packed: the canary is the only document of its row
        rows["seq_lengths"] = [[len(ids)] for ids in rows["input_ids"]]
    dataset = concatenate_datasets([reading.dataset, Dataset.from_dict(rows, features=reading.dataset.features)])
    chance, order = random.Random(f"places of {canaries.seed}"), list(reading.order)
    for start in range(0, len(order), reading.epoch_size):
        places = range(start, min(start + reading.epoch_size, len(order)))
        chosen = chance.sample(places, min(canaries.count, len(places)))
        for number, place in enumerate(chosen):
            order[place] = len(reading.dataset) + number
    return replace(reading, dataset=dataset, order=order, report=reading.report | {"canaries": canaries.count})
