"""View `completion`: the text around a cursor gives what the commit wrote there, as an editor asks for it.

What is completed is a part of a run of added lines: whole lines, the rest of a line, a node of the syntax tree, or the
rest of the run. The sample's id decides which, so the choice never changes.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from operator import itemgetter

from blocklm.corpus.syntax import nodes
from blocklm.corpus.views import LETTER, HunkText, Sample, sample_id

COMPLETION = "completion"
MAX_CHARS = 700  # of a completion; longer texts are left to the other views
MIN_CHARS = 8  # a closing brace says nothing
MIN_REST_CHARS = 4  # of a completed line
MAX_LINES = 3
LINES_PER_SAMPLE = 8
MAX_SAMPLES = 4  # of one run
LINES, REST_OF_LINE, NODE, REST_OF_RUN = range(4)
SHARES = (0.35, 0.35, 0.2, 0.1)


@dataclass(frozen=True)
class _Run:
    """A run of added lines, each with its line feed; what several samples ask of it is computed once."""

    text: str
    language: str | None

    @cached_property
    def lines(self) -> list[tuple[int, int]]:
        """Start and end of each line, without the line feed."""
        ends = list(accumulate(len(line) + 1 for line in self.text.split("\n")[:-1]))
        return [(start, end - 1) for start, end in pairwise((0, *ends))]

    @cached_property
    def long_lines(self) -> list[int]:
        """Numbers of the lines that say enough to be completed."""
        return [
            number for number, (start, end) in enumerate(self.lines) if len(self.text[start:end].strip()) >= MIN_CHARS
        ]

    @cached_property
    def nodes(self) -> list[tuple[int, int]]:
        """Start and end of each construct of the language that can be completed."""
        return nodes(self.text, self.language, MIN_CHARS, MAX_CHARS)


def completions(hunk: HunkText, language: str | None) -> Iterator[Sample]:
    """Yield one to four samples per run of added lines, without the text around them.

    The place of each is the line of the hunk at which the run starts, and its start and end in the run's text.
    """
    for number, (first, end) in enumerate(_added_runs(hunk)):
        run = _Run("".join(f"{line}\n" for _, line in hunk.marked[first:end]), language)
        for part in range(min(MAX_SAMPLES, 1 + (end - first) // LINES_PER_SAMPLE)):
            name = sample_id(hunk, COMPLETION, number * MAX_SAMPLES + part)
            span = _choose_span(run, random.Random(name))
            if span is not None:
                completion = run.text[slice(*span)]
                yield Sample(name, COMPLETION, "", (0, 0), completion, (0, len(completion)), place=(first, *span))


def _added_runs(hunk: HunkText) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of added lines that contains a letter or digit."""
    start = 0
    for mark, run in groupby(hunk.marked, key=itemgetter(0)):
        end = start + len(list(run))
        if mark == "+" and any(LETTER.search(text) for _, text in hunk.marked[start:end]):
            yield start, end
        start = end


def _choose_span(run: _Run, chance: random.Random) -> tuple[int, int] | None:
    """Choose the part of a run of lines that is completed; None if there is too little text."""
    (kind,) = chance.choices((LINES, REST_OF_LINE, NODE, REST_OF_RUN), SHARES)
    if kind == NODE:
        if run.nodes:
            return chance.choice(run.nodes)
        kind = REST_OF_LINE
    if not run.long_lines:
        return None
    line = chance.choice(run.long_lines)
    start, end = run.lines[line]
    text = run.text[start:end]
    indentation = len(text) - len(text.lstrip())
    if kind == REST_OF_LINE:
        start += chance.randint(indentation + 1, max(indentation + 1, len(text.rstrip()) - MIN_REST_CHARS))
    else:
        start += chance.choice((0, indentation))  # editors indent a new line, and some ask before that
    if kind == REST_OF_RUN and len(run.text) - 1 - start <= MAX_CHARS:
        return start, len(run.text) - 1
    extra = chance.randrange(MAX_LINES)
    ends = [end, *(later for _, later in run.lines[line + 1 : line + 1 + extra] if later - start <= MAX_CHARS)]
    return (start, ends[-1]) if ends[-1] - start <= MAX_CHARS else None
