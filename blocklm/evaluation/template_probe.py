"""Chooses the prompts that suit a base model: bits per byte of later changes under each prompt family, before training.

An unfamiliar marker costs a model more than a change of its learning rate. The papers leave open which line breaks and
placeholders a model has learned, so the model itself is measured.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from blocklm.corpus.build import SAMPLES
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import FAMILY, Family, readable
from blocklm.corpus.rendering import AT_PLACES, AnnotatedHunk
from blocklm.corpus.views import OF_HUNK, Sample
from blocklm.evaluation.exam.items import exam_items
from blocklm.files import write_json
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import special_tokens
from blocklm.models.source import ModelSource

HUNKS = 64
MAX_COST = 0.02  # share of a run's cost
BACKWARD_COST = 3  # cost of a training step over that of a forward pass
PROBED = (*AT_PLACES, *OF_HUNK)  # the views that need no more than a hunk and the file around it

Scores = dict[str, dict[str, float]]  # bits per byte by view and family


def is_asked(template: str, special_tokens: frozenset[str], views: Sequence[str], samples_read: int) -> bool:
    """Tell whether to probe the base: if `template` is `probe`, or `auto` and the probe costs little of the run."""
    return template == "probe" or (template == "auto" and _is_cheap(special_tokens, views, samples_read))


def _is_cheap(special_tokens: frozenset[str], views: Sequence[str], samples_read: int) -> bool:
    """Tell whether a probe costs at most a fiftieth of a run that reads `samples_read` samples."""
    probed = HUNKS * len(readable(special_tokens)) * len([view for view in views if view in PROBED])
    return probed <= MAX_COST * BACKWARD_COST * samples_read


@dataclass(frozen=True)
class TemplateProbe:
    """Scores a base model on the same hunks in the prompts of every family that its vocabulary has.

    Attributes:
        source: the base model.
        tokenizer: the base model's tokenizer.
        views: the views to probe; those that need more than a hunk and its file are skipped.
        max_length: maximum tokens per sample.
        places: builds the prompts of samples at places in files.
    """

    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    views: Sequence[str]
    max_length: int
    places: PlaceReader

    def load_or_ask(
        self, path: Path, question: Mapping[str, Any], hunks: Callable[[], Sequence[AnnotatedHunk]]
    ) -> Scores:
        """Return the scores stored in `path` for the same question, or compute and store them.

        Every process and a resumed run thus choose the same prompts.
        """
        key = {**question, "tokens": sorted(special_tokens(self.tokenizer)), "views": [*self.views]}
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stored.get("asked") == key:
            return dict(stored["scores"])
        scores = self.ask(hunks())
        write_json(path, {"asked": key, "scores": scores})
        return scores

    def ask(self, hunks: Sequence[AnnotatedHunk]) -> Scores:
        """Load the base model and score the hunks.

        Returns:
            Bits per byte by view and family, the fewest first; a view that no hunk has is missing.
        """
        loaded = LoadedModel(self.source.base(), self.tokenizer, self.source.precision.dtype)
        families = readable(special_tokens(self.tokenizer))
        scores: Scores = {}
        for view in (view for view in self.views if view in PROBED):
            bits_by_family = {family.name: self._bits_per_byte(loaded, hunks, family, view) for family in families}
            if all(np.isfinite(bits) for bits in bits_by_family.values()):
                scores[view] = dict(sorted(bits_by_family.items(), key=lambda pair: pair[1]))
        return scores

    def _bits_per_byte(self, loaded: LoadedModel, hunks: Sequence[AnnotatedHunk], family: Family, view: str) -> float:
        rows = [hunk.row(sample)[1] for hunk in hunks for sample in _first_sample(hunk, family, view)]
        columns = {name: [row[place] for row in rows] for place, name in enumerate(SAMPLES)}
        places = replace(self.places, prompts=replace(self.places.prompts, families={view: family}))
        filled = places.fill(columns, self.max_length)
        items = exam_items(filled, self.tokenizer, self.max_length) if rows else []
        size = sum(item.added_bytes for item in items)
        bits = bits_of_rows(loaded, [item.encoded for item in items], f"probe: {view} as {family.name}")
        return sum(bits) / size if size else float("nan")


def _first_sample(hunk: AnnotatedHunk, family: Family, view: str) -> list[Sample]:
    """Return the first sample of a hunk in a view; none if it has none."""
    if view in AT_PLACES:
        return list(AT_PLACES[view](hunk.text, hunk.language))[:1]
    return list(OF_HUNK[view](family, hunk.text))[:1]


def best_prompts(prompts: Mapping[str, Family], scores: Scores, main: str) -> dict[str, Family]:
    """Choose for each view the family with the fewest bits; views that were not probed take the main view's family."""
    best = {view: FAMILY[next(iter(bits_by_family))] for view, bits_by_family in scores.items()}
    return {view: best.get(view, best.get(main, family)) for view, family in prompts.items()}
