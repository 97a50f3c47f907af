"""Shows pieces of other files in a share of the training samples, found as the exam finds them.

One or two pieces are the nearest by BM25 at the commit's parent, and one is drawn at random from the same files,
because not every piece that is found helps. All of them count in the sample's maximum length, where they take the place
of recent edits.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from blocklm.config.sampling import PLACE_VIEWS
from blocklm.corpus.places.place import FilePiece
from blocklm.evaluation.exam.items import query_of
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.retrieval.parent_files import RetrievalQuery, nearest_before

if TYPE_CHECKING:
    from blocklm.corpus.places.reader import PlaceReader

MOST_NEAREST = 2


def with_retrieved_pieces(encoder: SampleEncoder, places: "PlaceReader", share: float) -> SampleEncoder:
    """Let an encoder show retrieved pieces in a share of the samples at a place, 0 to 1."""
    if not share:
        return encoder
    origin = f"{encoder.origin} retrieved {share}"
    return replace(encoder, fill=_RetrievingFill(places, share), origin=origin, retrieved_first=True)


@dataclass(frozen=True)
class _RetrievingFill:
    places: "PlaceReader"
    share: float

    def __call__(self, samples: Mapping[str, list[Any]], max_length: int) -> Mapping[str, list[Any]]:
        """Build the prompts of samples, of some again with pieces of other files."""
        filled = self.places.fill(samples, max_length)
        rows = [
            row
            for row, (name, view, completion) in enumerate(
                zip(filled["id"], filled["view"], filled["completion"], strict=True)
            )
            if view in PLACE_VIEWS and completion and random.Random(f"{name} shown").random() < self.share
        ]
        if not rows:
            return filled
        pieces = self._pieces([{column: values[row] for column, values in filled.items()} for row in rows])
        chosen = {column: [values[row] for row in rows] for column, values in samples.items()}
        for column, values in self.places.fill(chosen, max_length, pieces=pieces).items():
            for row, value in zip(rows, values, strict=True):
                filled[column][row] = value
        return filled

    def _pieces(self, samples: list[dict[str, Any]]) -> dict[str, list[FilePiece]]:
        """Find pieces by the id of the sample, the nearest last and the one at random anywhere."""
        suffixes = frozenset(PurePosixPath(sample["path"]).suffix for sample in samples)
        queries = [
            RetrievalQuery(sample["commit"], query_of(sample), sample["prompt"], distractors=1) for sample in samples
        ]
        found = nearest_before(self.places.repositories, queries, suffixes, MOST_NEAREST, paths=self._learned_paths)
        shown: dict[str, list[FilePiece]] = {}
        for sample, pieces in zip(samples, found, strict=True):
            if pieces:
                chance = random.Random(f"{sample['id']} pieces")
                *nearest, distractor = pieces
                nearest = nearest[: chance.randint(1, MOST_NEAREST)][::-1]
                nearest.insert(chance.randint(0, len(nearest)), distractor)
                shown[sample["id"]] = [replace(piece, text=self._clean(piece.text)) for piece in nearest]
        return shown

    def _clean(self, text: str) -> str:
        """Replace the secrets of the history, which a scan of a piece may not recognise."""
        return self.places.known.replace(text)[0]

    @cached_property
    def _learned_paths(self) -> frozenset[str]:
        """The paths of files from which something is learned: no others are shown, such as those in `exclude`."""
        table = self.places.changes.data.table.select(["path", "drop_reason"])
        kept = table["path"].filter(pc.is_null(table["drop_reason"]))
        return frozenset(kept.unique().to_pylist())
