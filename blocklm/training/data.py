"""What a training reads and what guides it: encoded samples of two splits, with the order of the first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.models.tokenization import EncodedSplit, encode_split
from blocklm.training.canaries import plant_canaries
from blocklm.training.data_order import TrainingOrder, training_order

if TYPE_CHECKING:
    from blocklm.corpus.build import Corpus


@dataclass(frozen=True)
class TrainingData:
    """Encoded samples.

    Attributes:
        reading: what is trained on, in its order.
        validation: what is evaluated while it trains.
        report: the manifest's `corpus`, with what of its splits is used.
    """

    reading: TrainingOrder
    validation: EncodedSplit
    report: dict[str, Any]


def training_data(
    corpus: "Corpus",
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    args: SFTConfig,
    processes: int,
    new: NDArray[np.bool_] | None,
) -> TrainingData:
    """Encode the training split in the order in which it is read, and the part of the validation split that guides it.

    Args:
        corpus: the samples.
        tokenizer: of the model.
        recipe: the run.
        args: length, epochs, batch, seed, packing and sampling strategy.
        processes: how many share the work.
        new: which training samples a top-up is for; None where all are read alike.

    Raises:
        UserError: no sample may be read, or none fits into `max_length`.
    """
    reading = training_order(
        corpus.splits["train"], tokenizer, recipe.sampling, recipe.run, args, corpus.folder, processes, new
    )
    reading = plant_canaries(reading, tokenizer, args.seed, recipe.handover.canaries, args.max_length)
    asked = corpus.splits["validation"]
    asked = asked.select([at for at, view in enumerate(asked["view"][:]) if view == recipe.exam_view])
    heard = spread_over_commits(asked["commit"][:], recipe.run.max_validation_samples, len(asked), args.seed)
    validation = encode_split(asked.select(heard), tokenizer, args.max_length, corpus.folder)
    if not len(validation.dataset):
        raise UserError(
            f"no validation sample fits into `max_length` {args.max_length}", "raise `max_length` in the recipe"
        )
    used = {"used": len(validation.dataset), "tokens": validation.tokens, "too_long": validation.too_long}
    splits = corpus.report["splits"]
    read = {"train": splits["train"] | reading.report, "validation": splits["validation"] | used}
    truncated = {"truncated": reading.report["trimmed"] + validation.trimmed}
    return TrainingData(reading, validation, corpus.report | {"splits": splits | read} | truncated)
