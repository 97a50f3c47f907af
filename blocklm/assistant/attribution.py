"""Finds where an answer may come from: the nearest training commits, and training text that it repeats verbatim.

Nearness is BM25 (Robertson and Zaragoza 2009) over the parts of identifiers. It shows similarity and proves nothing:
the text of a model has no single source.
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
FILE_VIEWS = ("file", "card")  # of files at the end of training, which do not name the commit that wrote them


@dataclass(frozen=True, slots=True)
class Origin:
    """A training commit that is near to an answer.

    Attributes:
        commit: id of the commit.
        day: its date.
        subject: first line of its message.
        path: its file that is nearest to the answer.
        score: BM25 score of the file.
    """

    commit: str
    day: date
    subject: str
    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """The possible origins of an answer.

    Attributes:
        nearest: nearest commits, the best first.
        verbatim: commit and path of each training sample that contains `SPAN` consecutive tokens of the answer.
    """

    nearest: Sequence[Origin]
    verbatim: Sequence[tuple[str, str]]


class Attributor:
    """Searches the training samples of a model for the origins of answers.

    Args:
        samples: samples of the training split.
        tokenizer: tokenizer of the model.
        subjects: function that maps commit ids to their subjects.
    """

    def __init__(
        self,
        samples: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        subjects: Callable[[Sequence[str]], Mapping[str, str]],
    ) -> None:
        self._all, self._tokenizer, self._subjects = samples, tokenizer, subjects
        self._of_commits = samples.select(
            [row for row, view in enumerate(samples["view"][:]) if view not in FILE_VIEWS]
        )
        self._index = WordIndex.build(_added_texts(self._of_commits))

    def of(self, prompt: str, answer: str) -> Attribution:
        """Find the origins of an answer; text that the prompt already contains does not count as repetition."""
        return Attribution(self._nearest(answer), self._verbatim(prompt, answer))

    def _nearest(self, answer: str) -> list[Origin]:
        """Find the nearest commits, each with its nearest sample."""
        scores = self._index.scores(answer)
        commits = self._of_commits["commit"][:]
        best: dict[str, int] = {}
        for index in np.argsort(-scores, kind="stable"):
            if scores[index] <= 0 or len(best) == SHOWN:
                break
            best.setdefault(commits[index], int(index))
        subjects = self._subjects(list(best))
        rows = [(self._of_commits[index], float(scores[index])) for index in best.values()]
        return [
            Origin(row["commit"], row["commit_time"].date(), subjects.get(row["commit"], ""), row["path"], score)
            for row, score in rows
        ]

    def _verbatim(self, prompt: str, answer: str) -> list[tuple[str, str]]:
        """Find training samples that contain `SPAN` consecutive tokens of the answer.

        Texts are compared rather than tokens, because the same text may be tokenised differently elsewhere.
        """
        ids = self._tokenizer(answer, add_special_tokens=False).input_ids
        spans = {self._tokenizer.decode(ids[start : start + SPAN]) for start in range(len(ids) - SPAN + 1)}
        matcher = AhoCorasick([span for span in spans if span not in prompt])
        places: dict[tuple[str, str], None] = {}
        for batch in self._all.select_columns(["prompt", "completion", "commit", "path"]).iter(1000):
            for sample_prompt, completion, commit, path in zip(*batch.values(), strict=True):
                if matcher.find_matches_as_indexes(sample_prompt + completion):
                    places[commit, path] = None
        return list(places)


def _added_texts(samples: Dataset) -> Iterator[str]:
    """Yield the path and the added text of each sample."""
    columns = (samples[name][:] for name in ("path", "completion", "added"))
    for path, text, spans in zip(*columns, strict=True):
        yield "\n".join([path, *(text[start:end] for start, end in zip(spans[::2], spans[1::2], strict=True))])


def describe_attribution(attribution: Attribution) -> Iterator[str]:
    """Yield a table of the nearest commits for a terminal, and a warning about verbatim repetition."""
    title = "nearest commits of the training split (BM25, date, commit, path, subject)"
    yield title if attribution.nearest else "no commit of the training split has a word of the answer"
    for origin in attribution.nearest:
        yield f"{origin.score:8.1f}  {origin.day}  {origin.commit[:12]}  {origin.path}  {origin.subject}"
    if attribution.verbatim:
        places = [f"{commit[:12]} {path}" for commit, path in attribution.verbatim]
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        yield f"warning: {SPAN} tokens or more in a row stand word for word in {', '.join(places[:SHOWN])}{more}"
