"""Renders the hunks that curation kept as weighted samples, in every view of the recipe.

Of a view that is asked at a place in a file, only the place and what was written there are stored.
`blocklm.corpus.places` builds the prompts of those samples that are drawn.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from blocklm.config.sampling import OF_NO_AGE, SamplingArguments
from blocklm.corpus import views
from blocklm.corpus.decontamination import HeldOutLines
from blocklm.corpus.fix_links import FixLinker, revert_reasons
from blocklm.corpus.places.completion import COMPLETION, completions
from blocklm.corpus.places.next_edit import NEXT_EDIT, next_edits
from blocklm.corpus.prompt_templates import ModelPrompts
from blocklm.corpus.sample_weights import (
    Preferences,
    SampleWeights,
    first_commits,
    lines_at_cut,
    long_lines,
    weight_samples,
)
from blocklm.corpus.splits import spread_over_commits
from blocklm.corpus.tree.samples import TreeRenderer
from blocklm.corpus.views import OF_HUNK, HunkText, Sample
from blocklm.mining.hunks import hunks_of
from blocklm.mining.landing_times import DAY, landing_times
from blocklm.mining.messages import says_something

# The views whose prompts are built once a sample is drawn.
AT_PLACES: dict[str, Callable[[HunkText, str | None], Iterator[Sample]]] = {
    COMPLETION: completions,
    NEXT_EDIT: next_edits,
}


@dataclass(frozen=True, slots=True)
class AnnotatedHunk:
    """A hunk with its verdict and the facts about its change that samples carry.

    `change` is the row of its change in the changes dataset; -1 for a file at the end of training.
    """

    change: int
    text: HunkText
    split: str
    weight: float
    seen_lines: bool
    author: str
    language: str | None
    seq: int
    commit_time: datetime

    def row(self, sample: Sample) -> tuple[str, tuple[Any, ...]]:
        """Build the row of a sample of this hunk: its split, and the values of the columns of samples."""
        return self.split, (
            sample.id,
            sample.prompt,
            sample.context,
            sample.completion,
            sample.added,
            sample.suffix,
            sample.pieces,
            sample.view,
            self.text.commit,
            self.text.path,
            self.language,
            self.seq,
            self.commit_time,
            self.weight,
            self.seen_lines,
            self.change,
            self.text.number,
            sample.place,
        )


class SampleRenderer:
    """Renders all samples of a history.

    Args:
        changes: changes dataset.
        verdicts: verdicts on its hunks.
        files: files as they were at the end of training; None if no key needs them.
        sampling: sampling keys of the recipe: views and weights.
        prompts: prompts of the model. Of its special tokens, the placeholders of redacted values may be in a text.

    Attributes:
        left_out: number of texts that were left out, by reason; complete once all samples are rendered.
        weights: weights of the training hunks.
    """

    def __init__(
        self,
        changes: Dataset,
        verdicts: Dataset,
        files: Dataset | None,
        sampling: SamplingArguments,
        prompts: ModelPrompts,
    ) -> None:
        self._changes, self._files = changes, files
        self._sampling, self._prompts = sampling, prompts.families
        self._forbidden = prompts.breaking
        judged = verdicts.data.table
        self._kept = judged.filter(pc.is_null(judged["reason"])).to_pylist()
        self._preferences = Preferences(sampling, first_commits(changes))
        self._hunk_views = [(view, render) for view, render in OF_HUNK.items() if view in prompts.families]
        self._place_views = [render for view, render in AT_PLACES.items() if view in prompts.families]
        self.left_out: Counter[str] = Counter()
        self._repairs: dict[int, HunkText] = {}
        self.weights = self._weigh()

    def samples(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the split and the columns of each sample, in the order of the history; pieces of files come last."""
        held_out = HeldOutLines()
        numbered = enumerate(
            tqdm(annotate_hunks(self._changes, self._kept), "rendering", len(self._kept), unit=" hunks", disable=None)
        )
        for _, group in groupby(numbered, key=lambda pair: pair[1].text.commit):
            commit = [(number, hunk) for number, hunk in group if not self._has_special_token(hunk.text)]
            for number, hunk in commit:
                if hunk.split != "train":
                    held_out.add(hunk.text.lines)
                yield from map(hunk.row, self._render_hunk(number, hunk))
            if commit:
                first = commit[0][1]
                yield from map(first.row, self._render_commit([hunk.text for _, hunk in commit]))
        if self._files is not None and not self._prompts.keys().isdisjoint(OF_NO_AGE):
            yield from self._render_files(self._files, held_out)

    def _render_hunk(self, number: int, hunk: AnnotatedHunk) -> Iterator[Sample]:
        text = hunk.text
        for view, render in self._hunk_views:
            yield from render(self._prompts[view], text)
        for find_places in self._place_views:
            yield from find_places(text, hunk.language)
        if number in self._repairs and not self._has_special_token(self._repairs[number]):
            yield from views.review(self._prompts["review"], text, self._repairs[number])

    def _render_commit(self, hunks: Sequence[HunkText]) -> Iterator[Sample]:
        if "message" in self._prompts and says_something(hunks[0].message):
            yield from views.message(self._prompts["message"], hunks)

    def _weigh(self) -> SampleWeights:
        """Weigh the training hunks, and note which hunk repairs which."""
        surviving = lines_at_cut(self._files["diff"]) if self._files is not None else frozenset()
        landed = landing_times(self._changes.data.table)
        repairs = FixLinker()
        # Reverts after the end of training are not known yet.
        ends = max((verdict["row"] + 1 for verdict in self._kept if verdict["split"] == "train"), default=0)
        reverts = revert_reasons(self._changes.data.table.slice(0, ends)) if "review" in self._prompts else {}
        days, kept, lines, quality, places = [], [], [], [], []
        for number, hunk in enumerate(annotate_hunks(self._changes, self._kept)):
            if hunk.split != "train":
                continue
            text = hunk.text
            identifying = long_lines(text.lines) if self._files is not None else []
            day = landed[hunk.seq] / DAY
            days.append(day)
            lines.append(len(identifying))
            kept.append(sum(map(surviving.__contains__, identifying)))
            quality.append(hunk.weight * self._preferences.of(text.path, hunk.author))
            places.append(number)
            if "review" in self._prompts:
                origin = repairs.origin(number, text.commit, day, text.path, text.message, text.lines)
                if origin is not None:
                    self._repairs.setdefault(origin, text)
                if text.commit in reverts:
                    reason = HunkText(text.repo, text.commit, text.path, reverts[text.commit], 0, ())
                    self._repairs.setdefault(number, reason)
        ages = np.array(days, float)
        ages = ages.max(initial=0.0) - ages
        weights = weight_samples(
            ages, np.array(kept, float), np.array(lines, float), np.array(quality, float), self._sampling
        )
        for number, value in zip(places, weights.values, strict=True):
            self._kept[number]["weight"] = float(value)
        return weights

    def _has_special_token(self, text: HunkText) -> bool:
        """Whether the text contains a special token, which would break a prompt; counts such texts."""
        breaks = self._forbidden.search("\n".join((text.path, text.message, *text.lines))) is not None
        self.left_out["special_token"] += breaks
        return breaks

    def _render_files(self, files: Dataset, held_out: HeldOutLines) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Render the files at the end of training, without what reveals held-out hunks."""
        training_rows = [verdict["row"] for verdict in self._kept if verdict["split"] == "train"]
        if not training_rows:
            return
        newest = self._changes[training_rows[-1]]
        renderer = TreeRenderer(self._prompts, held_out, self._has_special_token, self.left_out)
        for made in renderer.samples(files):
            weight = made.weight * self._preferences.of_path(made.file.path)
            hunk = AnnotatedHunk(
                -1, made.file, "train", weight, False, "", made.language, newest["seq"], newest["commit_time"]
            )
            yield hunk.row(made.sample)


def annotate_hunks(changes: Dataset, kept: Sequence[Mapping[str, Any]]) -> Iterator[AnnotatedHunk]:
    """Yield the hunk of each verdict with the facts about its change; verdicts are in the order of the history."""
    names = ("repo", "commit", "path", "message", "language", "seq", "commit_time", "author", "diff")
    rows = [(row, list(group)) for row, group in groupby(kept, key=lambda verdict: verdict["row"])]
    chosen = np.isin(np.arange(len(changes)), [row for row, _ in rows])
    table = changes.data.table.select(names).filter(pa.array(chosen))  # in half the time of `take`
    read = (change for batch in table.to_batches(max_chunksize=1000) for change in batch.to_pylist())
    for change, (_, verdicts) in zip(read, rows, strict=True):
        source = {key: change[key] for key in ("repo", "commit", "path", "message")}
        shared = {key: change[key] for key in ("author", "language", "seq", "commit_time")}
        hunks = hunks_of(change["diff"])
        for verdict in verdicts:
            text = HunkText(**source, number=verdict["hunk"], lines=hunks[verdict["hunk"]].lines)
            yield AnnotatedHunk(
                verdict["row"], text, verdict["split"], verdict["weight"], verdict["seen_lines"], **shared
            )


def held_out_hunks(changes: Dataset, verdicts: Dataset, count: int) -> list[AnnotatedHunk]:
    """Pick `count` hunks of validation from as many commits as possible; the exam's hunks are not used."""
    table = verdicts.data.table
    kept = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "validation"))).to_pylist()
    hunks = list(annotate_hunks(changes, kept))
    return [hunks[row] for row in spread_over_commits([hunk.text.commit for hunk in hunks], count, count, seed=0)]
