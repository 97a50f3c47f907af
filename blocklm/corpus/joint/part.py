"""The own corpus of a repository in a list, and the texts by which it is compared with the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from blocklm.corpus.candidates import CandidateHunk, candidate_hunks
from blocklm.corpus.curation import MIN_NEAR_CHARS
from blocklm.corpus.joint.duplicates import JointText, commit_number
from blocklm.mining.changes import Changes
from blocklm.mining.landing_times import landing_times

MOST_HUNKS = 1 << 15  # of a change: their numbers have 16 bits
Hunks = NDArray[np.int64]  # of each the row of its change times `MOST_HUNKS`, plus its number in the change


@dataclass(frozen=True)
class JointPart:
    """The own corpus of a repository.

    Attributes:
        changes: its mined changes.
        verdicts: the verdicts on its hunks.
        splits: its samples by split.
        report: the report of its corpus.
    """

    changes: Changes
    verdicts: Dataset
    splits: DatasetDict
    report: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the repository."""
        return str(self.changes.report["repository"]["name"])

    @cached_property
    def landed(self) -> NDArray[np.int64]:
        """Landing time of each commit in seconds, by its position."""
        times = landing_times(self.changes.dataset.data.table)
        landed = np.zeros(max(times) + 1, np.int64)
        landed[list(times)] = list(times.values())
        return landed

    def hunks_of_samples(self, split: str) -> Hunks:
        """The hunk of each sample of a split; -1 for a sample of a file."""
        table = self.splits[split].data.table
        changes, hunks = table["change"].to_numpy().astype(np.int64), table["hunk"].to_numpy()
        of_hunk: Hunks = np.where(changes < 0, -1, changes * MOST_HUNKS + hunks)
        return of_hunk

    @property
    def hunks(self) -> Hunks:
        """The hunks that its own corpus keeps."""
        table = self.verdicts.data.table
        kept = table.filter(pc.is_null(table["reason"]))
        hunks: Hunks = kept["row"].to_numpy().astype(np.int64) * MOST_HUNKS + kept["hunk"].to_numpy()
        return hunks

    def kept_hunks(self) -> Iterator[tuple[CandidateHunk, str]]:
        """Yield each hunk that its own corpus keeps, and its split."""
        judged = self.verdicts.select_columns(["reason", "split"])
        for hunk, verdict in zip(candidate_hunks(self.changes.dataset), judged, strict=True):
            if verdict["reason"] is None:
                yield hunk, verdict["split"]


@dataclass(frozen=True)
class TextsOf:
    """The texts of a repository: its kept hunks, and then what its samples of files show."""

    part: JointPart

    def __iter__(self) -> Iterator[JointText]:
        landed = self.part.landed
        for hunk, split in self.part.kept_hunks():
            key = int.from_bytes(hunk.key[:8])
            yield JointText(hunk.text, key, split, int(landed[hunk.seq]), commit_number(hunk.commit))
        newest = int(landed.max())
        for text in self.of_files():
            # Short texts are alike by accident, so the name of the repository makes them differ.
            named = text if len(text) >= MIN_NEAR_CHARS else f"{self.part.name}\n{text}"
            key = int.from_bytes(blake2b(named.encode(), digest_size=8).digest())
            yield JointText(text, key, "train", newest, 0)

    def of_files(self) -> Iterator[str]:
        """Yield what each sample of a file shows, without the name of the repository at its head."""
        rows = np.flatnonzero(self.part.hunks_of_samples("train") < 0)
        for sample in self.part.splits["train"].select_columns(["completion", "added"]).select(rows):
            yield sample["completion"][sample["added"][0] : sample["added"][-1]]


def commits_of(part: JointPart) -> NDArray[np.uint64]:
    """The numbers of all commits of a repository."""
    shas = part.changes.dataset.data.table["commit"].unique()
    return np.fromiter((commit_number(sha.as_py()) for sha in shas), np.uint64, len(shas))
