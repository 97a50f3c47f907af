"""Writes the samples of many repositories as one corpus, in the order of time, without what one repeats of another.

The samples are streamed from one mapped file to the other. Those of a repository keep the prompts, the split and the
weight that its own corpus gave them; `repository_weights` multiplies the weight.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blocklm import cache
from blocklm.config.recipe import Recipe
from blocklm.corpus.decontamination import HeldOutLines, gives_away
from blocklm.corpus.joint.duplicates import (
    KEPT,
    LEAK,
    REASONS,
    Reasons,
    RepositoryTexts,
    find_repeated,
)
from blocklm.corpus.joint.part import Hunks, JointPart, TextsOf, commits_of
from blocklm.corpus.joint.reports import joint_report, joint_weights
from blocklm.corpus.splits import NAMES, describe_splits
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.mining.joint import first_rows, first_seqs, shift, sum_funnels

ROWS_AT_ONCE = 1000


def join_samples(changes: Changes, parts: Sequence[JointPart], recipe: Recipe) -> tuple[cache.Stored, Path]:
    """Write the samples of all repositories, or read the cached result; returns it and the folder that it is in.

    Args:
        changes: the changes of all.
        parts: each repository, in the same order.
        recipe: recipe of the run.

    Raises:
        UserError: `repository_weights` names no repository, or nothing is left of a split.
    """
    given = recipe.sampling.repository_weights or {}
    assert isinstance(given, dict), "the recipe was read"
    names = [part.name for part in parts]
    if unknown := sorted(set(given) - set(names)):
        raise UserError(f"`repository_weights` names no repository: {unknown[0]}", f"there are {', '.join(names)}")
    disabled = frozenset(recipe.mining.disable_rules or ())
    settings: dict[str, Any] = {"weights": given, "disabled": sorted(disabled)}
    key = cache.data_key("mining", "corpus", "cache", joint=[part.report["key"] for part in parts], **settings)
    folder = Path(recipe.mining.corpus_dir) / changes.report["repository"]["name"][:100] / f"samples-{key}"

    def build(ready: Path) -> dict[str, Any]:
        joint = _JointSamples(changes, parts, [float(given.get(name, 1)) for name in names], disabled)
        batches = {name: joint.batches(name) for name in NAMES}
        built = cache.write_split_batches(ready / "data", batches, parts[0].splits["train"].features, fingerprint=key)
        if empty := [name for name, split in built.items() if not len(split)]:
            raise UserError(
                f"nothing is left for {' and '.join(empty)} without what one repository repeats of another",
                "take copies out of the list, so that more of the others is left",
            )
        return joint.report() | {"key": key, "splits": describe_splits(built, joint.landed_by_seq())}

    return cache.read_or_build(folder, build), folder.parent


class _JointSamples:
    """The samples of all repositories that stay, and their order."""

    def __init__(
        self, changes: Changes, parts: Sequence[JointPart], weights: Sequence[float], disabled: frozenset[str]
    ) -> None:
        self._parts, self._weights = parts, weights
        self._first_seqs, self._first_rows = first_seqs(changes.parts), first_rows(changes.parts)
        texts = [RepositoryTexts(TextsOf(part), commits_of(part)) for part in parts]
        self._reasons = find_repeated(texts, disabled)
        self._drop_files_that_reveal()

    def _drop_files_that_reveal(self) -> None:
        """Drop the samples of files that hold a held-out hunk of another repository."""
        held_out = HeldOutLines()
        for part in self._parts:
            for hunk, split in part.kept_hunks():
                if split != "train":
                    held_out.add([f"+{line}" for line in hunk.text.split("\n")])
        for part, reasons in zip(self._parts, self._reasons, strict=True):
            texts = list(TextsOf(part).of_files())
            of_files = reasons[len(reasons) - len(texts) :]  # a view: what is written goes into `reasons`
            for number, text in enumerate(texts):
                known = held_out.known_lines(text)
                if known and gives_away(text, known):
                    of_files[number] = LEAK

    @staticmethod
    def _hunk_funnel(part: JointPart, reasons: Reasons) -> list[dict[str, Any]]:
        """What is to be added to a funnel: hunks that are not kept any more, by their reason."""
        hunks = reasons[: part.verdicts.data.table["reason"].null_count]
        dropped = {str(name): int((hunks == name).sum()) for name in REASONS if name != KEPT}
        added = [{"rule": name, "dropped": count} for name, count in dropped.items() if count]
        return [{"rule": "kept", "kept": -sum(dropped.values())}, *added]

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Yield the samples of a split in the order in which their commits landed."""
        repository, row, landed = (np.concatenate(column) for column in zip(*self._rows(split), strict=True))
        order = np.argsort(landed, kind="stable")
        tables = [part.splits[split].with_format("arrow") for part in self._parts]
        for start in range(0, len(order), ROWS_AT_ONCE):
            chunk = order[start : start + ROWS_AT_ONCE]
            own = [(number, np.flatnonzero(repository[chunk] == number)) for number in np.unique(repository[chunk])]
            read = [self._moved(tables[number][row[chunk][places].tolist()], number) for number, places in own]
            back = np.argsort(np.concatenate([places for _, places in own]))
            yield from pa.concat_tables(read).take(pa.array(back)).combine_chunks().to_batches()

    def _rows(self, split: str) -> Iterator[tuple[Hunks, Hunks, Hunks]]:
        """Yield the repository, row and landing time of the samples of each repository that stay."""
        for number, (part, reasons) in enumerate(zip(self._parts, self._reasons, strict=True)):
            rows = np.flatnonzero(self._stay(part, reasons, split))
            seqs = part.splits[split].data.table["seq"].to_numpy()[rows]
            yield np.full(len(rows), number), rows, part.landed[seqs]

    @staticmethod
    def _stay(part: JointPart, reasons: Reasons, split: str) -> NDArray[np.bool_]:
        """Which samples of a split stay."""
        hunks, of_samples = part.hunks, part.hunks_of_samples(split)
        stay = ~np.isin(of_samples, hunks[reasons[: len(hunks)] != KEPT])
        if split == "train":
            stay[of_samples < 0] = reasons[len(hunks) :] == KEPT
        return stay

    def _moved(self, samples: pa.Table, number: int) -> pa.Table:
        """Let samples point into the changes of all, and weigh them."""
        moved = shift(shift(samples, "seq", self._first_seqs[number]), "change", self._first_rows[number])
        weights = pc.multiply(moved["weight"], pa.scalar(self._weights[number], pa.float32()))
        return moved.set_column(moved.schema.get_field_index("weight"), moved.schema.field("weight"), weights)

    def landed_by_seq(self) -> dict[int, int]:
        """Landing time of each commit, by its position among the commits of all."""
        return dict(enumerate(np.concatenate([part.landed for part in self._parts]).tolist()))

    def report(self) -> dict[str, Any]:
        """The manifest's `corpus`, with what was left out of each repository because another has it."""
        reports = [part.report for part in self._parts]
        joint = joint_report(reports)
        joint["hunk_funnel"] = sum_funnels([joint["hunk_funnel"], *map(self._hunk_funnel, self._parts, self._reasons)])
        left_out = sum((Counter(report["left_out"]) for report in reports), Counter[str]())
        sizes = [len(rows) for _, rows, _ in self._rows("train")]
        return joint | {
            "left_out": dict(left_out),
            "weights": joint_weights([report["weights"] for report in reports]),
            "prompts": reports[0]["prompts"],
            "repositories": [
                {
                    "name": part.name,
                    "samples": size,
                    "weight": weight,
                    "repeated": {name: int((reasons == name).sum()) for name in REASONS if name != KEPT},
                }
                for part, size, weight, reasons in zip(self._parts, sizes, self._weights, self._reasons, strict=True)
            ],
        }
