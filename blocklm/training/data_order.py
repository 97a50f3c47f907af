"""What a training reads: encoded samples, and the order of all of them from the first step to the last."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
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

from blocklm.config.run import RunArguments
from blocklm.config.sampling import SamplingArguments
from blocklm.errors import UserError
from blocklm.models.tokenization import EncodedSplit, encode, encode_split
from blocklm.training.curriculum import (
    Floats,
    Phase,
    Rates,
    draw,
    in_span,
    passes,
    phases_of,
    rates_of,
    rates_with_replay,
)

MEASURED = 500  # samples whose length stands for all
NAMED = 64  # samples of those that are read, by which an audit can ask for them


@dataclass(frozen=True)
class TrainingOrder:
    """Rows for the trainer and the order in which they are read.

    Attributes:
        dataset: rows of `input_ids` and `labels`.
        order: places of rows, from the first step to the last.
        epoch_size: number of rows that make an epoch.
        report: the manifest's `corpus.splits.train`, as far as it is about what is read.
        epochs: number of epochs that were made of `target_tokens`; None where the recipe says it.
    """

    dataset: Dataset
    order: list[int]
    epoch_size: int
    report: dict[str, Any]
    epochs: float | None = None


class InOrder(Sampler[int]):
    """Rows in a fixed order, an epoch being a part of it.

    Args:
        reading: the order.
        epoch: asks the trainer for its epoch: its `set_epoch` does not come through what accelerate wraps around a sampler
            when several processes resume.
    """

    def __init__(self, reading: TrainingOrder, epoch: Callable[[], float]) -> None:
        self._order, self._size, self._epoch = reading.order, reading.epoch_size, epoch

    def __iter__(self) -> Iterator[int]:
        start = int(self._epoch() + 1e-6) * self._size
        return (self._order[at % len(self._order)] for at in range(start, start + self._size))

    def __len__(self) -> int:
        return self._size


def training_order(
    samples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    sampling: SamplingArguments,
    run: RunArguments,
    args: SFTConfig,
    folder: Path,
    processes: int,
    new: NDArray[np.bool_] | None = None,
) -> TrainingOrder:
    """Choose, encode and order what is read.

    A top-up keeps the recipe's epochs and learning rate: warming up to it again and decaying, with replay, is what lets a
    model go on learning (arXiv 2403.08763). It is short because its epoch is: what is new, and its part of replay.

    Args:
        samples: the training split.
        tokenizer: of the model.
        sampling: shares of the views, phases.
        run: how large an epoch is, and how much of it is replay.
        args: length, epochs, batch, seed, packing and sampling strategy.
        folder: where encoded samples are kept.
        processes: how many share the work.
        new: which samples a top-up is for; None where all are read alike.

    Raises:
        UserError: no sample may be read, or none fits into a phase.
    """
    newest = sampling.recency == "newest"
    table = samples.data.table
    views, weights = table["view"].to_pylist(), table["weight"].to_pylist()
    if not any(weight > 0 and view in sampling.shares for view, weight in zip(views, weights, strict=True)):
        raise UserError("no sample of `views` has a weight above 0", "correct `views`, `boost` or `author_weights`")
    how = (sampling.shares, run.max_train_samples, newest)
    if new is None:
        rates = rates_of(views, weights, *how)
    else:
        rates = rates_with_replay(views, weights, new, run.replay_share, *how)
    assert not isinstance(sampling.phases, str), "the recipe was read"
    chosen = _epochs(samples, rates, tokenizer, run, args) if run.target_tokens else None
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    desk = _OrderBuilder(samples, tokenizer, args, folder, per_step)
    steps, epochs = max(0, args.max_steps), float(args.num_train_epochs if chosen is None else chosen)
    for number, phase in enumerate(phases_of(sampling.phases)):
        seed, own = args.seed * 1000 + number, np.stack([in_span(part, phase.span) for part in rates.parts])
        if not own.any():
            raise UserError(f"phase {phase.name} of `phases` reads no sample", "widen its span")
        count = needed = max(1, round((steps * per_step or epochs * rates.size) * phase.share))
        rows = desk.drawn(phase, own, count, seed)
        while steps and len(rows) < needed:  # packing joined some, and some were too long
            count = int(1.1 * count * needed / len(rows)) + 1
            rows = desk.drawn(phase, own, count, seed)
        desk.read(rows[:needed] if steps else rows)
    return replace(desk.finished(1.0 if steps else epochs, rates), epochs=chosen)


def _epochs(
    samples: Dataset, rates: Rates, tokenizer: PreTrainedTokenizerBase, run: RunArguments, args: SFTConfig
) -> float:
    """How many epochs read `target_tokens`, by the mean length of some samples, within the recipe's bounds."""
    some = draw(rates.values, min(MEASURED, rates.size), np.random.default_rng(args.seed))
    found = [one for one in encode(samples.select(some)[:], tokenizer, args.max_length) if one is not None]
    tokens = rates.size * sum(len(one.input_ids) for one in found) / len(some)
    assert run.target_tokens is not None
    return min(max(run.target_tokens / max(1.0, tokens), run.min_epochs), run.max_epochs)


@dataclass(frozen=True)
class _Rows:
    """What a phase reads: its samples, their rows, the order of these, and how many tokens one may have."""

    split: EncodedSplit
    dataset: Dataset
    order: list[int]
    length: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, part: slice) -> "_Rows":
        return replace(self, order=self.order[part])


@dataclass
class _OrderBuilder:
    """Where the reading list is put together, phase by phase."""

    samples: Dataset
    tokenizer: PreTrainedTokenizerBase
    args: SFTConfig
    folder: Path
    per_step: int
    encoded: list[EncodedSplit] = field(default_factory=list)
    parts: list[Dataset] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    capacity: list[int] = field(default_factory=list)
    heard: set[int] = field(default_factory=set)

    def drawn(self, phase: Phase, rates: Floats, count: int, seed: int) -> "_Rows":
        """Draw `count` samples for a phase and encode them; one that is too long for it is passed over."""
        some = list(passes(rates, count, seed))
        length = min(phase.max_length or self.args.max_length, self.args.max_length)
        used = np.unique(np.concatenate(some))
        split = encode_split(self.samples.select(used), self.tokenizer, length, self.folder)
        if not len(split.dataset):
            raise UserError(
                f"no train sample fits into `max_length` {length}",
                "raise `max_length` in the recipe, or widen the span of the phase",
            )
        row_of = np.full(len(self.samples), -1)
        row_of[used[split.dataset["sample"][:]]] = np.arange(len(split.dataset))
        self.heard.update(int(at) for at in np.flatnonzero(row_of >= 0))
        rows = split.dataset.remove_columns("sample")
        orders = [[int(row) for row in row_of[drawn] if row >= 0] for drawn in some]
        if self.args.packing:
            packed = [
                self._packed(rows.select(chosen), length, seed + at) for at, chosen in enumerate(orders) if chosen
            ]
            return _Rows(split, concatenate_datasets(packed), list(range(sum(map(len, packed)))), length)
        lengths = pc.list_value_length(rows.data.table["input_ids"]).to_numpy()
        arranged = [self._arranged(chosen, lengths, seed + at) for at, chosen in enumerate(orders)]
        return _Rows(split, rows, [row for chosen in arranged for row in chosen], length)

    def read(self, rows: "_Rows") -> None:
        """Put the rows of a phase at the end of the order."""
        start = sum(map(len, self.parts))
        self.encoded.append(rows.split)
        self.parts.append(rows.dataset)
        self.capacity.append(len(rows.dataset) * rows.length)
        self.order += [start + row for row in rows.order]

    def _arranged(self, rows: list[int], lengths: NDArray[np.int64], seed: int) -> list[int]:
        """One pass in the order that `train_sampling_strategy` asks for."""
        if self.args.train_sampling_strategy == "sequential":
            return sorted(rows)
        if self.args.train_sampling_strategy != "group_by_length" or not rows:
            return rows
        generator = torch.Generator().manual_seed(seed)
        grouped = get_length_grouped_indices(lengths[rows].tolist(), self.per_step, generator=generator)
        return [rows[at] for at in grouped]

    def _packed(self, rows: Dataset, length: int, seed: int) -> Dataset:
        """One pass packed into rows of full length; packing sorts them by length, so they are shuffled again."""
        packed = pack_dataset(rows, length, "bfd")
        return packed.select(np.random.default_rng(seed).permutation(len(packed)))

    def finished(self, epochs: float, rates: Rates) -> TrainingOrder:
        """The list, cut into epochs of one size, of which the last may be part of one.

        Epochs are whole steps, or one process would read fewer rows in the last of them than several do: accelerate gives
        each as many. The last rows fill what is missing.
        """
        steps = ceil(len(self.order) / epochs / self.per_step)
        while (missing := ceil(epochs * steps) * self.per_step - len(self.order)) > 0:
            self.order += self.order[-missing:]
        dataset = concatenate_datasets(self.parts)
        lengths = pc.list_value_length(dataset.data.table["input_ids"]).to_numpy()
        heard = np.random.default_rng(self.args.seed).permutation(sorted(self.heard))[:NAMED]
        report = {
            "heard": self.samples.select(heard)["id"][:],
            "used": sum(len(split.dataset) for split in self.encoded),
            "tokens": int(lengths[self.order].sum()),
            "too_long": sum(split.too_long for split in self.encoded),
            "trimmed": sum(split.trimmed for split in self.encoded),
            "shares": rates.shares,
            "replay_share": round(rates.replay_share, 4),
            "utilisation": round(int(lengths.sum()) / sum(self.capacity), 4) if self.args.packing else None,
        }
        return TrainingOrder(dataset, self.order, steps * self.per_step, report)
