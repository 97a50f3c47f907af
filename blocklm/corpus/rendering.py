"""The hunks that may teach or ask, weighed and written in every view that the recipe wants."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from tqdm import tqdm

from blocklm.config.sampling import SamplingArguments
from blocklm.corpus import views
from blocklm.corpus.decontamination import HeldOutLines, gives_away
from blocklm.corpus.fix_links import FixLinker, reason_of_revert
from blocklm.corpus.prompt_templates import Family
from blocklm.corpus.sample_weights import Preferences, SampleWeights, lines_at_cut, long_lines, weight_samples
from blocklm.corpus.splits import spread_over_commits
from blocklm.corpus.views import OF_HUNK, HunkText, Sample
from blocklm.mining.filters import REVERTED_COMMIT
from blocklm.mining.hunks import hunks_of
from blocklm.mining.landing_times import DAY, landing_times
from blocklm.mining.messages import says_something
from blocklm.mining.redaction import PLACEHOLDERS

SAMPLES = Features(
    {
        "id": Value("string"),
        "prompt": Value("large_string"),
        "context": List(Value("int32")),
        "completion": Value("large_string"),
        "added": List(Value("int32")),
        "view": Value("string"),
        "commit": Value("string"),
        "path": Value("string"),
        "language": Value("string"),
        "seq": Value("int32"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "weight": Value("float32"),
        "seen_lines": Value("bool"),
    }
)


@dataclass(frozen=True, slots=True)
class AnnotatedHunk:
    """One hunk with its verdict and what else is known of its change."""

    text: HunkText
    split: str
    weight: float
    seen_lines: bool
    author: str
    language: str | None
    seq: int
    commit_time: datetime

    def row(self, sample: Sample) -> tuple[str, tuple[Any, ...]]:
        """The split, and the values of the columns of `SAMPLES`."""
        return self.split, (
            sample.id,
            sample.prompt,
            sample.context,
            sample.completion,
            sample.added,
            sample.view,
            self.text.commit,
            self.text.path,
            self.language,
            self.seq,
            self.commit_time,
            self.weight,
            self.seen_lines,
        )


class SampleRenderer:
    """All that may teach or ask of a history.

    Args:
        changes: the changes dataset.
        verdicts: the verdict on each of its hunks.
        files: the files as they stood where training ends; None without any.
        sampling: which views, and what weighs more.
        prompts: the family whose prompts each view takes.
        special_tokens: of the model; a text that holds one is left out, except our own placeholders.
    """

    def __init__(
        self,
        changes: Dataset,
        verdicts: Dataset,
        files: Dataset | None,
        sampling: SamplingArguments,
        prompts: Mapping[str, Family],
        special_tokens: frozenset[str],
    ) -> None:
        self._changes, self._files = changes, files
        self._sampling, self._prompts = sampling, prompts
        self._breaking = special_tokens - set(PLACEHOLDERS)
        judged = verdicts.data.table
        self._kept = judged.filter(pc.is_null(judged["reason"])).to_pylist()
        self._preferences = Preferences(sampling, _first_commits(changes))
        self._of_hunk_views = [(view, render) for view, render in OF_HUNK.items() if view in prompts]
        self.left_out: Counter[str] = Counter()
        self._repairs: dict[int, HunkText] = {}
        self.weights = self._weigh()

    def samples(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the split and the columns of each sample, in the order of the history; the files come last."""
        asked = HeldOutLines()
        numbered = enumerate(
            tqdm(annotate_hunks(self._changes, self._kept), "rendering", len(self._kept), unit=" hunks", disable=None)
        )
        for _, some in groupby(numbered, key=lambda pair: pair[1].text.commit):
            commit = [(number, lesson) for number, lesson in some if not self._breaks(lesson.text)]
            for number, lesson in commit:
                if lesson.split != "train":
                    asked.add(lesson.text.lines)
                yield from map(lesson.row, self._of_hunk(number, lesson.text))
            if commit:
                first = commit[0][1]
                yield from map(first.row, self._of_commit([lesson.text for _, lesson in commit]))
        if self._files is not None and "snapshot" in self._prompts:
            yield from self._snapshot(self._files, asked)

    def _of_hunk(self, number: int, text: HunkText) -> Iterator[Sample]:
        for view, render in self._of_hunk_views:
            yield from render(self._prompts[view], text)
        if number in self._repairs and not self._breaks(self._repairs[number]):
            yield from views.review(self._prompts["review"], text, self._repairs[number])

    def _of_commit(self, hunks: Sequence[HunkText]) -> Iterator[Sample]:
        if "message" in self._prompts and says_something(hunks[0].message):
            yield from views.message(self._prompts["message"], hunks)

    def _weigh(self) -> SampleWeights:
        """Weigh what trains, and note what repairs what."""
        standing = lines_at_cut(self._files["diff"]) if self._files is not None else frozenset()
        landed = landing_times(self._changes.data.table)
        repairs = FixLinker()
        # What is said after training ends has no say in it.
        ends = max((one["row"] + 1 for one in self._kept if one["split"] == "train"), default=0)
        reverts = _reverts(self._changes.data.table.slice(0, ends)) if "review" in self._prompts else {}
        days, kept, lines, quality, places = [], [], [], [], []
        for number, lesson in enumerate(annotate_hunks(self._changes, self._kept)):
            if lesson.split != "train":
                continue
            here = lesson.text
            telling = long_lines(here.lines) if self._files is not None else []
            day = landed[lesson.seq] / DAY
            days.append(day)
            lines.append(len(telling))
            kept.append(sum(map(standing.__contains__, telling)))
            quality.append(lesson.weight * self._preferences.of(here.path, lesson.author))
            places.append(number)
            if "review" in self._prompts:
                origin = repairs.origin(number, here.commit, day, here.path, here.message, here.lines)
                if origin is not None:
                    self._repairs.setdefault(origin, here)
                if here.commit in reverts:
                    why = HunkText(here.repo, here.commit, here.path, reverts[here.commit], 0, ())
                    self._repairs.setdefault(number, why)
        ages = np.array(days, float)
        ages = ages.max(initial=0.0) - ages
        found = weight_samples(
            ages, np.array(kept, float), np.array(lines, float), np.array(quality, float), self._sampling
        )
        for number, value in zip(places, found.values, strict=True):
            self._kept[number]["weight"] = float(value)
        return found

    def _breaks(self, text: HunkText) -> bool:
        """Whether a special token stands in the text: it would break a prompt."""
        whole = "\n".join((text.path, text.message, *text.lines))
        breaks = any(token in whole for token in self._breaking)
        self.left_out["special_token"] += breaks
        return breaks

    def _snapshot(self, files: Dataset, asked: HeldOutLines) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Pieces of the files at the cut; what is asked later is taken out."""
        taught = [verdict["row"] for verdict in self._kept if verdict["split"] == "train"]
        if not taught:
            return
        newest = self._changes[taught[-1]]
        for file in files:
            if file["drop_reason"] is not None:
                continue
            text = HunkText(file["repo"], file["commit"], file["path"], "", 0, file["diff"].split("\n")[1:])
            if self._breaks(text):
                continue
            weight = file["weight"] * self._preferences.of_path(file["path"])
            lesson = AnnotatedHunk(
                text, "train", weight, False, "", file["language"], newest["seq"], newest["commit_time"]
            )
            known = asked.known_lines(file["diff"].replace("\n+", "\n"))
            for sample in views.snapshot(self._prompts["snapshot"], text):
                if known and gives_away(sample.completion, known):
                    self.left_out["asked_later"] += 1
                else:
                    yield lesson.row(sample)


def annotate_hunks(changes: Dataset, kept: Sequence[Mapping[str, Any]]) -> Iterator[AnnotatedHunk]:
    """Every hunk of some verdicts with its change, in their order."""
    names = ("repo", "commit", "path", "message", "language", "seq", "commit_time", "author", "diff")
    rows = [(row, list(some)) for row, some in groupby(kept, key=lambda verdict: verdict["row"])]
    table = changes.data.table.select(names).take(pa.array([row for row, _ in rows], pa.int64()))
    found = (change for batch in table.to_batches(max_chunksize=1000) for change in batch.to_pylist())
    for change, (_, some) in zip(found, rows, strict=True):
        source = {key: change[key] for key in ("repo", "commit", "path", "message")}
        shared = {key: change[key] for key in ("author", "language", "seq", "commit_time")}
        hunks = hunks_of(change["diff"])
        for verdict in some:
            text = HunkText(**source, number=verdict["hunk"], lines=hunks[verdict["hunk"]].lines)
            yield AnnotatedHunk(text, verdict["split"], verdict["weight"], verdict["seen_lines"], **shared)


def held_out_hunks(changes: Dataset, verdicts: Dataset, count: int) -> list[HunkText]:
    """Some hunks of validation, of as many commits as possible; the exam's are not touched."""
    table = verdicts.data.table
    kept = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "validation"))).to_pylist()
    texts = [lesson.text for lesson in annotate_hunks(changes, kept)]
    return [texts[at] for at in spread_over_commits([text.commit for text in texts], count, count, seed=0)]


def _first_commits(changes: Dataset) -> dict[str, str]:
    """The first commit of each repository."""
    table = changes.data.table.select(["repo", "commit"])
    first = table.append_column("row", pa.array(range(len(table)))).group_by("repo").aggregate([("row", "min")])
    return {
        repo: changes[row]["commit"]
        for repo, row in zip(first["repo"].to_pylist(), first["row_min"].to_pylist(), strict=True)
    }


def _reverts(table: pa.Table) -> dict[str, str]:
    """What each commit's revert says of it."""
    messages = table.filter(pc.equal(pc.fill_null(table["drop_reason"], ""), "revert"))["message"].unique().to_pylist()
    said = {name: reason_of_revert(message) for message in messages for name in REVERTED_COMMIT.findall(message)}
    return {name: reason for name, reason in said.items() if reason}
