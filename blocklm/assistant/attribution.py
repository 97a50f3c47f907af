"""Where an answer may come from: the training commits that added what is nearest to it, and what it repeats word for word.

Nearest is BM25 (Robertson and Zaragoza 2009) over the parts of identifiers. It is likeness, no proof: what a model writes has
no single source.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from ahocorasick_rs import AhoCorasick
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.verbatim import SPAN

SHOWN = 5
WHOLE_FILES = "snapshot"  # the view of files as they stood: its samples name no commit that wrote them


@dataclass(frozen=True, slots=True)
class Origin:
    """A training commit, its subject, and the file of it that is nearest to an answer."""

    commit: str
    day: date
    subject: str
    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest commits, and where (commit and path) `SPAN` tokens of the answer in a row stand in a training sample."""

    nearest: Sequence[Origin]
    verbatim: Sequence[tuple[str, str]]


class Attributor:
    """What a model was taught from, to be searched for many answers.

    Args:
        samples: the training split.
        tokenizer: of the model.
        subjects: the subjects of some commits.
    """

    def __init__(
        self,
        samples: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        subjects: Callable[[Sequence[str]], Mapping[str, str]],
    ) -> None:
        self._all, self._tokenizer, self._subjects = samples, tokenizer, subjects
        self._taught = samples.select([at for at, view in enumerate(samples["view"][:]) if view != WHOLE_FILES])
        self._index = WordIndex.build(_added(self._taught))

    def of(self, prompt: str, answer: str) -> Found:
        """Search for an answer; what its prompt shows already is no repetition."""
        return Found(self._nearest(answer), self._verbatim(prompt, answer))

    def _nearest(self, answer: str) -> list[Origin]:
        """The best sample of each of the best commits."""
        scores = self._index.scores(answer)
        commits = self._taught["commit"][:]
        best: dict[str, int] = {}
        for at in np.argsort(-scores, kind="stable"):
            if scores[at] <= 0 or len(best) == SHOWN:
                break
            best.setdefault(commits[at], int(at))
        subjects = self._subjects(list(best))
        rows = [(self._taught[at], float(scores[at])) for at in best.values()]
        return [
            Origin(row["commit"], row["commit_time"].date(), subjects.get(row["commit"], ""), row["path"], score)
            for row, score in rows
        ]

    def _verbatim(self, prompt: str, answer: str) -> list[tuple[str, str]]:
        """Texts, not tokens, are compared: the same text may be cut into other tokens elsewhere."""
        ids = self._tokenizer(answer, add_special_tokens=False).input_ids
        runs = {self._tokenizer.decode(ids[at : at + SPAN]) for at in range(len(ids) - SPAN + 1)}
        known = AhoCorasick([run for run in runs if run not in prompt])
        found: dict[tuple[str, str], None] = {}
        for batch in self._all.select_columns(["prompt", "completion", "commit", "path"]).iter(1000):
            for asked, told, commit, path in zip(*batch.values(), strict=True):
                if known.find_matches_as_indexes(asked + told):
                    found[commit, path] = None
        return list(found)


def _added(samples: Dataset) -> Iterator[str]:
    """What each sample's commit brought, and where."""
    columns = (samples[name][:] for name in ("path", "completion", "added"))
    for path, text, spans in zip(*columns, strict=True):
        yield "\n".join([path, *(text[start:end] for start, end in zip(spans[::2], spans[1::2], strict=True))])


def describe_attribution(found: Found) -> Iterator[str]:
    """A table of them as a person reads it, and a warning of what is repeated."""
    near = "nearest commits of the training split (BM25, date, commit, path, subject)"
    yield near if found.nearest else "no commit of the training split has a word of the answer"
    for one in found.nearest:
        yield f"{one.score:8.1f}  {one.day}  {one.commit[:12]}  {one.path}  {one.subject}"
    if found.verbatim:
        named = [f"{commit[:12]} {path}" for commit, path in found.verbatim]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        yield f"warning: {SPAN} tokens or more in a row stand word for word in {', '.join(named[:SHOWN])}{more}"
