"""Builds the prompts of drawn samples: reads the files around their places from git and shows what an editor would.

Files are read by blob, many at a time, and kept no longer than a batch of samples needs them. They pass the same
redaction as the history. Whatever comes after a place in its commit is not shown: hunks below it, and later files.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.places.co_changes import CoChanges
from blocklm.corpus.places.completion import COMPLETION
from blocklm.corpus.places.file_state import FileState, file_states
from blocklm.corpus.places.mined_commit import MinedCommit
from blocklm.corpus.places.next_edit import CHANGE, NEXT_EDIT, EditWindow, edit_window, quiet_window
from blocklm.corpus.places.place import FilePiece, Place, RecentEdit, Shown
from blocklm.corpus.places.recent_edits import recent_edits, shared_folders
from blocklm.corpus.prompt_templates import ModelPrompts, Prompt
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import read_contents
from blocklm.mining.filters import MAX_CREDENTIALS
from blocklm.mining.redaction import redact_each
from blocklm.mining.secrets.known import KnownSecrets

VIEWS = (COMPLETION, NEXT_EDIT)
CHARS_PER_TOKEN = 6  # more than code has, so that the tokens decide where a text is cut
MIN_LINE_CHARS = 8  # of a line on average, for the number of lines that are joined
MAX_FILE_BYTES = 1 << 20
UNNAMED_PART = 5  # of one in so many samples the editor tells neither path nor repository
NEAR_CHARS = 2000  # around a place, whose names recent edits are compared with
READ_COLUMNS = ("repo", "path", "after_blob", "drop_reason", "hunk_reasons", "diff")
BUILT = ("prompt", "context", "suffix", "pieces", "retrieved", "completion", "added", "before")
UNREADABLE = ("", (0, 0), (), (), 0, "", (), "")


@dataclass(frozen=True)
class PlaceReader:
    """Builds the prompts of samples whose place alone is stored.

    Attributes:
        changes: changes dataset.
        repositories: repositories with the files.
        known: secrets of the history.
        prompts: prompts of the model.
    """

    changes: Dataset
    repositories: Sequence[Repository]
    known: KnownSecrets
    prompts: ModelPrompts

    def fill(
        self,
        samples: Mapping[str, list[Any]],
        max_length: int,
        shown: Shown | None = None,
        pieces: Mapping[str, Sequence[FilePiece]] | None = None,
    ) -> dict[str, list[Any]]:
        """Build the prompts of samples; those of other views stay as they are.

        Args:
            samples: columns of samples.
            max_length: maximum tokens of prompt and completion together; longer texts are cut by tokens afterwards.
            shown: what is shown around the places; default: all.
            pieces: pieces of other files to show, by the id of the sample, the nearest last; default: none.

        Returns:
            The columns, in the same order; `before`, the text that the completion replaces; `retrieved`, how many of
            `pieces` are of other files. A sample whose file cannot be read, or does not agree with the hunk, has
            an empty completion.
        """
        filled = {name: list(column) for name, column in samples.items()}
        filled |= {"before": [""] * len(filled["view"]), "retrieved": [0] * len(filled["view"])}
        rows = [row for row, view in enumerate(filled["view"]) if view in VIEWS]
        chars = CHARS_PER_TOKEN * max_length
        commits = self._commits({filled["change"][row] for row in rows})
        texts = self._texts(commits, {filled["change"][row] for row in rows})
        builder = _PromptBuilder(self.prompts, self._together, chars, shown or Shown(), pieces or {})
        for row in rows:
            change = filled["change"][row]
            sample = {name: column[row] for name, column in filled.items()}
            built = builder.build(sample, commits[change], change, texts.get(change))
            for name, value in zip(BUILT, built or UNREADABLE, strict=True):
                filled[name][row] = value
        return filled

    @cached_property
    def _together(self) -> Mapping[str, CoChanges]:
        """The files that were changed together, by repository: several may have files of the same path."""
        table = self.changes.data.table.select(["repo", "path", "seq"])
        table = table.filter(pc.is_valid(table["path"]))
        own = {name: table.filter(pc.equal(table["repo"], name)) for name in table["repo"].unique().to_pylist()}
        return {
            name: CoChanges(zip(rows["path"].to_pylist(), rows["seq"].to_pylist(), strict=True))
            for name, rows in own.items()
        }

    def _commits(self, changes: set[int]) -> dict[int, MinedCommit]:
        """Read the commit of each change: its rows in the changes dataset, in the order of its files."""
        table = self.changes.data.table
        seqs, rows = table["seq"].to_numpy(), table.select(READ_COLUMNS)
        commits: dict[int, MinedCommit] = {}
        by_seq: dict[int, MinedCommit] = {}
        for change in sorted(changes):
            seq = int(seqs[change])
            if seq not in by_seq:
                first, end = (int(seqs.searchsorted(seq, side=side)) for side in ("left", "right"))
                by_seq[seq] = MinedCommit(seq, dict(enumerate(rows.slice(first, end - first).to_pylist(), first)))
            commits[change] = by_seq[seq]
        return commits

    def _texts(self, commits: Mapping[int, MinedCommit], changes: set[int]) -> dict[int, str]:
        """Read the files after some changes, without secrets; a file that cannot be shown is missing."""
        wanted: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for change in changes:
            row = commits[change].rows[change]
            if row["after_blob"] is not None:
                wanted[row["repo"]][row["after_blob"]].append(change)
        texts: dict[int, str] = {}
        for repository in self.repositories:
            blobs = wanted.get(repository.name, {})
            if blobs:
                with isolated_repository(repository.git_dir, repository.shallow) as environment:
                    read = {blob: text for blob, text in _decode(read_contents(environment, list(blobs)))}
                redacted = redact_each(list(read.values()))
                for blob, text in read.items():
                    if redacted[text].credentials <= MAX_CREDENTIALS:
                        clean, _ = self.known.replace(redacted[text].text)
                        texts |= dict.fromkeys(blobs[blob], clean)
        return texts


def _decode(contents: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """Yield the contents that are UTF-8 text of bounded size."""
    for blob, content in contents:
        if len(content) <= MAX_FILE_BYTES and b"\0" not in content:
            try:
                yield blob, content.decode()
            except UnicodeDecodeError:
                continue


@dataclass(frozen=True)
class _PromptBuilder:
    """Builds the prompt of a sample from its file and its commit."""

    prompts: ModelPrompts
    together: Mapping[str, CoChanges]
    chars: int
    shown: Shown
    pieces: Mapping[str, Sequence[FilePiece]]

    def build(
        self, sample: Mapping[str, Any], commit: MinedCommit, change: int, text: str | None
    ) -> tuple[Any, ...] | None:
        """Return the values of the columns `BUILT`; None if the place cannot be shown."""
        states = None if text is None else file_states(text, commit.rows[change]["diff"])
        if states is None or sample["hunk"] >= len(states):
            return None
        number = sample["hunk"]
        state, name = states[number], sample["id"]
        if sample["view"] == COMPLETION:
            found = self._completion(state, sample)
            if found is None:
                return None
            before, after = found
            completion, added, made, replaced = sample["completion"], sample["added"], number, ""
            near = before[-NEAR_CHARS:] + after[:NEAR_CHARS]
        else:
            window = _edit(states, number, sample)
            if window is None:
                return None
            before, after, completion, added, replaced = window.before, "", window.after, window.added, window.before
            made = number + (sample["place"][0] != CHANGE)  # the hunk beside a place without a change has been made
            near = before
        edits = self._edits(commit, change, made, near) if self.shown.edits else []
        family = self.prompts.families[sample["view"]]
        named = self.shown.path and int(name, 16) % UNNAMED_PART != 0
        place = Place(
            repo=commit.rows[change]["repo"],
            path=commit.rows[change]["path"] if named else None,
            before=before,
            after=after,
            edits=edits,
            pieces=[piece for piece in self.pieces.get(name, ()) if not self._breaks(piece.path, piece.text)],
        )
        if self._breaks(place.before, place.after, completion):
            return None
        prompt: Prompt = family.prompt_at(sample["view"], place)
        parts = prompt.context, prompt.suffix, prompt.pieces, prompt.retrieved
        return prompt.text, *parts, completion, added, replaced

    def _completion(self, state: FileState, sample: Mapping[str, Any]) -> tuple[str, str] | None:
        """Find the text before and after a completion; None if the file does not hold it there."""
        first, start, end = sample["place"]
        hunk = list(state.hunk)
        stop = next((place for place in range(first, len(hunk)) if hunk[place][0] != "+"), len(hunk))
        run = "".join(f"{line}\n" for _, line in hunk[first:stop])
        if run[start:end] != sample["completion"]:
            return None
        lines = self.chars // MIN_LINE_CHARS if self.shown.file else 0
        above = [*state.above(lines), *(line for mark, line in hunk[:first] if mark != "-" and self.shown.file)]
        below = [*(line for mark, line in hunk[stop:] if mark != "+" and self.shown.file), *state.below(lines)]
        rest = "".join(run[end:].partition("\n")[:2])  # of the last line; a node may end with its line feed
        before = "".join(f"{line}\n" for line in above) + run[:start]
        after = rest + "".join(f"{line}\n" for line in below)
        if not self.shown.file:
            before, after = run[run.rfind("\n", 0, start) + 1 : start], rest
        return self._unbroken(before[-self.chars :], last=True), self._unbroken(after[: self.chars // 2], last=False)

    def _unbroken(self, text: str, last: bool) -> str:
        """Return the part of a text next to the place that holds no special token."""
        parts = self.prompts.breaking.split(text)
        return parts[-1] if last else parts[0]

    def _breaks(self, *texts: str) -> bool:
        return any(self.prompts.breaking.search(text) for text in texts)

    def _edits(self, commit: MinedCommit, change: int, hunk: int, near: str) -> list[RecentEdit]:
        own, others = commit.before(change, hunk)
        path, together = commit.rows[change]["path"], self.together[commit.rows[change]["repo"]]
        relation = {
            other: shared_folders(path, other) + together.share(path, other, commit.seq)
            for other in {hunk.path for hunk in others}
        }
        edits = recent_edits(own, others, near, relation)
        return [edit for edit in edits if not self._breaks(edit.path, edit.original, edit.updated)]


def _edit(states: Sequence[FileState], number: int, sample: Mapping[str, Any]) -> EditWindow | None:
    chance = random.Random(sample["id"])
    if sample["place"][0] == CHANGE:
        return edit_window(states[number], chance)
    return quiet_window(states, number, chance)
