"""Encodes the training split in its order, and the part of the validation split that is evaluated meanwhile."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.corpus.splits import spread_over_commits
from blocklm.corpus.tree.definitions import defined_names
from blocklm.errors import UserError
from blocklm.evaluation.canaries import Canaries
from blocklm.evaluation.retrieved_pieces import with_retrieved_pieces
from blocklm.models.tokenization.sample_encoder import EncodedSplit, SampleEncoder
from blocklm.training.canaries import plant_canaries
from blocklm.training.data_order import TrainingOrder, TrainingSamples, training_order
from blocklm.training.exposures import count_exposures

if TYPE_CHECKING:
    from blocklm.corpus.build import Corpus


@dataclass(frozen=True)
class TrainingData:
    """Encoded samples of both splits.

    Attributes:
        reading: training rows in their order.
        validation: rows that are evaluated during training.
        report: the manifest's `corpus`, with the number of samples that are used of each split, and how often training
            meets the definitions of the repository.
    """

    reading: TrainingOrder
    validation: EncodedSplit
    report: dict[str, Any]


def training_data(
    corpus: "Corpus", encoder: SampleEncoder, recipe: Recipe, args: SFTConfig, new: NDArray[np.bool_] | None
) -> TrainingData:
    """Encode the training split in its order, and the part of the validation split that is evaluated meanwhile.

    Args:
        corpus: the samples of all splits.
        encoder: encodes with the model's tokenizer, and keeps the result beside the corpus.
        recipe: the run's recipe.
        args: length, epochs, batch, seed, packing and sampling strategy.
        new: mask of the training samples that a top-up adds; None if the run is no top-up.

    Raises:
        UserError: no sample may be read, or none fits into `max_length`.
    """
    names = frozenset[str]() if corpus.files is None else defined_names(corpus.files)
    given = TrainingSamples(corpus.splits["train"], new, names)
    teacher = with_retrieved_pieces(encoder, corpus.places, recipe.sampling.retrieved_share)
    reading = training_order(given, teacher, recipe.sampling, recipe.run, args)
    canaries = Canaries(args.seed, recipe.handover.canaries)
    reading = plant_canaries(reading, encoder.tokenizer, canaries, args.max_length)
    samples = corpus.splits["validation"]
    samples = samples.select([row for row, view in enumerate(samples["view"][:]) if view in recipe.exam_views])
    chosen = spread_over_commits(samples["commit"][:], recipe.run.max_validation_samples, len(samples), args.seed)
    validation = encoder.encode_split(samples.select(chosen), args.max_length)
    if not len(validation.dataset):
        raise UserError(
            f"no validation sample fits into `max_length` {args.max_length}", "raise `max_length` in the recipe"
        )
    used = {
        "used": len(validation.dataset),
        "tokens": validation.tokens,
        "too_long": validation.too_long,
        "unread": validation.unread,
    }
    splits = corpus.report["splits"]
    read = {"train": splits["train"] | reading.report, "validation": splits["validation"] | used}
    exposures = count_exposures(reading, names, encoder.tokenizer, recipe.run.target_exposures)
    truncated = {"truncated": reading.report["trimmed"] + validation.trimmed}
    return TrainingData(
        reading, validation, corpus.report | {"splits": splits | read} | truncated | {"exposures": exposures}
    )
