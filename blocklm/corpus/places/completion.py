"""View `completion`: the text around a cursor gives what the commit wrote there, as an editor asks for it.

What is completed is a part of a run of added lines: whole lines, the rest of a line, a node of the syntax tree, or the
rest of the run. The sample's id decides which, so the choice never changes.
"""

import random
from collections.abc import Iterator
from itertools import groupby
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


def completions(hunk: HunkText, language: str | None) -> Iterator[Sample]:
    """Yield one to four samples per run of added lines, without the text around them.

    The place of each is the line of the hunk at which the run starts, and its start and end in the run's text.
    """
    for run, (first, end) in enumerate(_added_runs(hunk)):
        text = "".join(f"{line}\n" for _, line in hunk.marked[first:end])
        for number in range(min(MAX_SAMPLES, 1 + (end - first) // LINES_PER_SAMPLE)):
            part = run * MAX_SAMPLES + number
            name = sample_id(hunk, COMPLETION, part)
            span = _choose_span(text, language, random.Random(name))
            if span is not None:
                completion = text[slice(*span)]
                yield Sample(name, COMPLETION, "", (0, 0), completion, (0, len(completion)), place=(first, *span))


def _added_runs(hunk: HunkText) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of added lines that contains a letter or digit."""
    start = 0
    for mark, run in groupby(hunk.marked, key=itemgetter(0)):
        end = start + len(list(run))
        if mark == "+" and any(LETTER.search(text) for _, text in hunk.marked[start:end]):
            yield start, end
        start = end


def _choose_span(run: str, language: str | None, chance: random.Random) -> tuple[int, int] | None:
    """Choose the part of a run of lines that is completed; None if there is too little text."""
    (kind,) = chance.choices((LINES, REST_OF_LINE, NODE, REST_OF_RUN), SHARES)
    if kind == NODE:
        spans = [span for span in nodes(run, language) if MIN_CHARS <= span[1] - span[0] <= MAX_CHARS]
        if spans:
            return chance.choice(spans)
        kind = REST_OF_LINE
    lines = [line for line in _lines(run) if len(run[slice(*line)].strip()) >= MIN_CHARS]
    if not lines:
        return None
    start, end = chance.choice(lines)
    text = run[start:end]
    indentation = len(text) - len(text.lstrip())
    if kind == REST_OF_LINE:
        start += chance.randint(indentation + 1, max(indentation + 1, len(text.rstrip()) - MIN_REST_CHARS))
    else:
        start += chance.choice((0, indentation))  # editors indent a new line, and some ask before that
    if kind == REST_OF_RUN and len(run) - 1 - start <= MAX_CHARS:
        return start, len(run) - 1
    ends = [line_end for line_start, line_end in _lines(run) if line_start >= end and line_end - start <= MAX_CHARS]
    extra = chance.randrange(MAX_LINES)
    end = [end, *ends][: extra + 1][-1]
    return (start, end) if end - start <= MAX_CHARS else None


def _lines(run: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each line, without the line feed."""
    start = 0
    for line in run.split("\n")[:-1]:
        yield start, start + len(line)
        start += len(line) + 1
