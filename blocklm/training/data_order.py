"""Fixes which encoded samples a training reads and in which order, from the first step to the last."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, pack_dataset

from blocklm.config.run import RunArguments
from blocklm.config.sampling import SamplingArguments
from blocklm.errors import UserError
from blocklm.models.tokenization.sample_encoder import EncodedSplit, SampleEncoder
from blocklm.training.curriculum import (
    Floats,
    Indices,
    PassLimits,
    Phase,
    Rates,
    draw,
    epochs_for,
    in_span,
    pass_limits,
    passes,
    phases_of,
    rates_of,
    rates_with_replay,
    rates_within_tokens,
    tokens_of,
)
from blocklm.training.exposure_target import ExposureTarget, NamedDefinitions

LENGTH_SAMPLES = 100  # of each view, from whose lengths the mean of all is estimated
Draw = Callable[[Floats, int, int], Iterable[Indices]]  # rates, number of samples, seed → passes
RECORDED_IDS = 64  # ids of samples that were read, kept for the audit


@dataclass(frozen=True)
class TrainingOrder:
    """Rows for the trainer and the order in which it reads them.

    Attributes:
        dataset: rows of `input_ids` and `labels`.
        order: row numbers, from the first step to the last.
        epoch_size: number of rows in an epoch.
        report: the counts of the samples read, for the manifest's `corpus.splits.train`.
        epochs: number of epochs that reaches `target_tokens` or `target_exposures`; None if the recipe gives it.
    """

    dataset: Dataset
    order: list[int]
    epoch_size: int
    report: dict[str, Any]
    epochs: float | None = None


@dataclass(frozen=True)
class TrainingSamples:
    """The samples that a training may read.

    Attributes:
        samples: the training split.
        new: mask of the samples that a top-up adds; None if the run is no top-up.
        names: names that the files at the end of training define, for `target_exposures`.
    """

    samples: Dataset
    new: NDArray[np.bool_] | None = None
    names: frozenset[str] = frozenset()


def training_order(
    given: TrainingSamples, encoder: SampleEncoder, sampling: SamplingArguments, run: RunArguments, args: SFTConfig
) -> TrainingOrder:
    """Choose, encode and order the samples to train on.

    A top-up keeps the recipe's epochs and learning rate: a model goes on learning if the rate warms up again and decays
    and old samples are replayed (arXiv 2403.08763). It is short because its epoch holds only new samples and replay.

    Args:
        given: the samples that may be read.
        encoder: encodes with the model's tokenizer.
        sampling: shares of the views, and phases.
        run: size of an epoch, share of replay in it, and how often definitions should be met.
        args: length, epochs, batch, number of processes, seed, packing and sampling strategy.

    Raises:
        UserError: no sample has a weight above 0, or none fits into a phase.
    """
    samples, new, table = given.samples, given.new, given.samples.data.table
    views, weights = table["view"].to_pylist(), table["weight"].to_pylist()
    if not any(weight > 0 and view in sampling.shares for view, weight in zip(views, weights, strict=True)):
        raise UserError("no sample of `views` has a weight above 0", "correct `views`, `boost` or `author_weights`")
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    limits = pass_limits(sampling, run, max(0, args.max_steps) * per_step)

    def rates_within(limits: PassLimits) -> Rates:
        if new is None:
            return rates_of(views, weights, limits)
        return rates_with_replay(views, weights, new, run.replay_share, limits)

    rates, chosen = rates_within(limits), None
    if run.target_tokens is not None:
        mean = _mean_tokens(samples, rates, encoder, args)
        rates = rates_within_tokens(rates_within, limits, run.target_tokens, mean)
        chosen = epochs_for(run, tokens_of(rates, mean))
    assert not isinstance(sampling.phases, str), "the recipe's parser has read the phases"
    builder = _OrderBuilder(samples, encoder, args, per_step)
    if run.target_exposures is not None:
        named = NamedDefinitions.of(samples, given.names)
        builder.draw = ExposureTarget(named, run.target_exposures, ends=args.max_steps <= 0).passes
    steps, epochs = max(0, args.max_steps), float(args.num_train_epochs if chosen is None else chosen)
    for number, phase in enumerate(phases_of(sampling.phases)):
        seed, phase_rates = args.seed * 1000 + number, np.stack([in_span(part, phase.span) for part in rates.parts])
        if not phase_rates.any():
            raise UserError(f"phase {phase.name} of `phases` reads no sample", "widen its `span`")
        count = needed = max(1, round((steps * per_step or epochs * rates.size) * phase.share))
        rows = builder.draw_rows(phase, phase_rates, count, seed)
        while steps and len(rows) < needed:  # packing joined some samples, and some were too long
            count = int(1.1 * count * needed / len(rows)) + 1
            rows = builder.draw_rows(phase, phase_rates, count, seed)
        builder.append(rows[:needed] if steps else rows)
    if run.target_exposures is not None and not steps and builder.drawn < round(epochs * rates.size):
        epochs = chosen = builder.drawn / rates.size
    return replace(builder.finish(1.0 if steps else epochs, rates), epochs=chosen)


def _mean_tokens(samples: Dataset, rates: Rates, encoder: SampleEncoder, args: SFTConfig) -> dict[str, float]:
    """Estimate the mean tokens of a drawn sample of each view from 100 draws; one that is too long counts as none."""
    views, generator = np.array(samples["view"][:]), np.random.default_rng(args.seed)
    mean = {}
    for view in rates.shares:
        rows = draw(np.where(views == view, rates.values, 0.0), LENGTH_SAMPLES, generator)
        fitting = [sample for sample in encoder.encode(samples.select(rows), args.max_length) if sample is not None]
        mean[view] = sum(len(sample.input_ids) for sample in fitting) / len(rows)
    return mean


@dataclass(frozen=True)
class _Rows:
    """The encoded samples of a phase, the rows made of them, their order, and the maximum tokens of a row."""

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
    """Builds a `TrainingOrder` phase by phase."""

    samples: Dataset
    encoder: SampleEncoder
    args: SFTConfig
    per_step: int
    encoded: list[EncodedSplit] = field(default_factory=list)
    parts: list[Dataset] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    capacity: list[int] = field(default_factory=list)
    sampled_rows: set[int] = field(default_factory=set)
    draw: Draw = passes
    drawn: int = 0

    def draw_rows(self, phase: Phase, rates: Floats, count: int, seed: int) -> "_Rows":
        """Draw `count` samples for a phase and encode them, leaving out those that are too long for it."""
        draws = list(self.draw(rates, count, seed))
        self.drawn = sum(map(len, draws))
        length = min(phase.max_length or self.args.max_length, self.args.max_length)
        used = np.unique(np.concatenate(draws))
        split = self.encoder.encode_split(self.samples.select(used), length)
        if not len(split.dataset):
            raise UserError(
                f"no train sample fits into `max_length` {length}",
                "raise `max_length` in the recipe, or widen the `span` of the phase",
            )
        row_of = np.full(len(self.samples), -1)
        row_of[used[split.dataset["sample"][:]]] = np.arange(len(split.dataset))
        self.sampled_rows.update(int(sample) for sample in np.flatnonzero(row_of >= 0))
        rows = split.dataset.remove_columns("sample")
        orders = [[int(row) for row in row_of[samples] if row >= 0] for samples in draws]
        if self.args.packing:
            packed = [
                self._pack(rows.select(order), length, seed + number) for number, order in enumerate(orders) if order
            ]
            return _Rows(split, concatenate_datasets(packed), list(range(sum(map(len, packed)))), length)
        lengths = pc.list_value_length(rows.data.table["input_ids"]).to_numpy()
        arranged = [self._arrange(order, lengths, seed + number) for number, order in enumerate(orders)]
        return _Rows(split, rows, [row for order in arranged for row in order], length)

    def append(self, rows: "_Rows") -> None:
        """Append the rows of a phase to the order."""
        start = sum(map(len, self.parts))
        self.encoded.append(rows.split)
        self.parts.append(rows.dataset)
        self.capacity.append(len(rows.dataset) * rows.length)
        self.order += [start + row for row in rows.order]

    def _arrange(self, rows: list[int], lengths: NDArray[np.int64], seed: int) -> list[int]:
        """Sort the rows of one pass as `train_sampling_strategy` asks."""
        if self.args.train_sampling_strategy == "sequential":
            return sorted(rows)
        if self.args.train_sampling_strategy != "group_by_length" or not rows:
            return rows
        generator = torch.Generator().manual_seed(seed)
        grouped = get_length_grouped_indices(lengths[rows].tolist(), self.per_step, generator=generator)
        return [rows[place] for place in grouped]

    def _pack(self, rows: Dataset, length: int, seed: int) -> Dataset:
        """Pack one pass into rows of full length, and shuffle them, because packing sorts by length."""
        packed = pack_dataset(rows, length, "bfd")
        return packed.select(np.random.default_rng(seed).permutation(len(packed)))

    def finish(self, epochs: float, rates: Rates) -> TrainingOrder:
        """Return the order, cut into epochs of equal size; the last epoch may be a partial one.

        An epoch is a whole number of steps: accelerate gives every process the same number of rows, so a partial step
        would differ between one process and several. The last rows are repeated to fill it.
        """
        steps = ceil(len(self.order) / epochs / self.per_step)
        while (missing := ceil(epochs * steps) * self.per_step - len(self.order)) > 0:
            self.order += self.order[-missing:]
        dataset = concatenate_datasets(self.parts)
        lengths = pc.list_value_length(dataset.data.table["input_ids"]).to_numpy()
        recorded = np.random.default_rng(self.args.seed).permutation(sorted(self.sampled_rows))[:RECORDED_IDS]
        report = {
            "heard": self.samples.select(recorded)["id"][:],
            "used": sum(len(split.dataset) for split in self.encoded),
            "tokens": int(lengths[self.order].sum()),
            "too_long": sum(split.too_long for split in self.encoded),
            "unread": sum(split.unread for split in self.encoded),
            "trimmed": sum(split.trimmed for split in self.encoded),
            "shares": rates.shares,
            "replay_share": round(rates.replay_share, 4),
            "utilisation": round(int(lengths.sum()) / sum(self.capacity), 4) if self.args.packing else None,
        }
        return TrainingOrder(dataset, self.order, steps * self.per_step, report)
