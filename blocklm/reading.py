"""What a training reads: encoded samples, and the order of all of them from the first step to the last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, pack_dataset

from blocklm.curriculum import Indices, Phase, in_span, passes, phases_of, rates_of
from blocklm.encoding import EncodedSplit, encode_split
from blocklm.errors import UserError
from blocklm.recipe import RunArguments
from blocklm.sampling import SamplingArguments


@dataclass(frozen=True)
class ReadingList:
    """Rows for the trainer, the order in which they are read, and how many make an epoch."""

    dataset: Dataset
    order: list[int]
    epoch_size: int
    report: dict[str, Any]


class InOrder(Sampler[int]):
    """Rows in a fixed order; an epoch is a part of it, so that the trainer can begin anywhere."""

    def __init__(self, reading: ReadingList) -> None:
        self._order, self._size, self._epoch = reading.order, reading.epoch_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; the trainer does so at its start, and when it resumes."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        start = self._epoch * self._size
        return (self._order[at % len(self._order)] for at in range(start, start + self._size))

    def __len__(self) -> int:
        return self._size


def reading_list(
    samples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    sampling: SamplingArguments,
    run: RunArguments,
    args: SFTConfig,
    folder: Path,
    processes: int,
) -> ReadingList:
    """Choose, encode and order what is read.

    Args:
        samples: the training split.
        tokenizer: of the model.
        sampling: shares of the views, phases.
        run: how large an epoch is.
        args: length, epochs, batch, seed, packing and sampling strategy.
        folder: where encoded samples are kept.
        processes: how many share the work.

    Raises:
        UserError: no sample may be read, or none fits into a phase.
    """
    newest = sampling.recency == "newest"
    table = samples.data.table
    views, weights = table["view"].to_pylist(), table["weight"].to_pylist()
    if not any(weight > 0 and view in sampling.shares for view, weight in zip(views, weights, strict=True)):
        raise UserError("no sample of `views` has a weight above 0", "correct `views`, `boost` or `author_weights`")
    rates = rates_of(views, weights, sampling.shares, run.max_train_samples, newest)
    assert not isinstance(sampling.phases, str), "the recipe was read"
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    epochs = 1 if args.max_steps > 0 else max(1, int(np.ceil(args.num_train_epochs)))
    total = args.max_steps * per_step if args.max_steps > 0 else epochs * rates.size
    desk = _Desk(samples, tokenizer, args, folder, per_step)
    for number, phase in enumerate(phases_of(sampling.phases)):
        seed, own = args.seed * 1000 + number, in_span(rates.values, phase.span)
        if not own.any():
            raise UserError(f"phase {phase.name} of `phases` reads no sample", "widen its span")
        desk.read(phase, list(passes(own, max(1, round(total * phase.share)), seed)), seed)
    return desk.finished(epochs, rates.shares)


@dataclass
class _Desk:
    """Where the reading list is put together, phase by phase."""

    samples: Dataset
    tokenizer: PreTrainedTokenizerBase
    args: SFTConfig
    folder: Path
    per_step: int
    encoded: list[EncodedSplit] = field(default_factory=list)
    parts: list[Dataset] = field(default_factory=list)
    order: list[int] = field(default_factory=list)

    def read(self, phase: Phase, drawn: Sequence[Indices], seed: int) -> None:
        """Put the passes of a phase at the end of the order; a sample too long for it is passed over."""
        length = min(phase.max_length or self.args.max_length, self.args.max_length)
        used = np.unique(np.concatenate(drawn))
        split = encode_split(self.samples.select(used), self.tokenizer, length, self.folder)
        if not len(split.dataset):
            raise UserError(
                f"no train sample fits into `max_length` {length}",
                "raise `max_length` in the recipe, or widen the span of the phase",
            )
        self.encoded.append(split)
        rows = split.dataset.remove_columns("sample")
        lengths = pc.list_value_length(rows.data.table["input_ids"]).to_numpy()
        row_of = np.full(len(self.samples), -1)
        row_of[used[split.dataset["sample"][:]]] = np.arange(len(rows))
        start = sum(map(len, self.parts))
        if not self.args.packing:
            self.parts.append(rows)
        for number, some in enumerate(drawn):
            chosen = [int(row) for row in row_of[some] if row >= 0]
            if self.args.packing:
                self._pack(rows.select(chosen), length, seed + number)
            else:
                self.order += [start + row for row in self._arranged(chosen, lengths, seed + number)]

    def _arranged(self, rows: list[int], lengths: NDArray[np.int64], seed: int) -> list[int]:
        """One pass in the order that `train_sampling_strategy` asks for."""
        if self.args.train_sampling_strategy == "sequential":
            return sorted(rows)
        if self.args.train_sampling_strategy != "group_by_length" or not rows:
            return rows
        generator = torch.Generator().manual_seed(seed)
        grouped = get_length_grouped_indices(lengths[rows].tolist(), self.per_step, generator=generator)
        return [rows[at] for at in grouped]

    def _pack(self, rows: Dataset, length: int, seed: int) -> None:
        """Pack one pass into rows of full length; packing sorts them by length, so they are shuffled again."""
        packed = pack_dataset(rows, length, "bfd")
        start = sum(map(len, self.parts))
        self.parts.append(packed)
        self.order += (np.random.default_rng(seed).permutation(len(packed)) + start).tolist()

    def finished(self, epochs: int, shares: dict[str, float]) -> ReadingList:
        """The list, cut into epochs of one size."""
        dataset = concatenate_datasets(self.parts)
        lengths = pc.list_value_length(dataset.data.table["input_ids"]).to_numpy()
        report = {
            "used": sum(len(split.dataset) for split in self.encoded),
            "tokens": int(lengths[self.order].sum()),
            "too_long": sum(split.too_long for split in self.encoded),
            "trimmed": sum(split.trimmed for split in self.encoded),
            "shares": shares,
        }
        return ReadingList(dataset, self.order, max(1, len(self.order) // epochs), report)
