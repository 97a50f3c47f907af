"""Chooses when the server says nothing: where the model finds its own first line too unlikely.

The threshold is chosen on the validation split, whose commits are newer than all that was trained on: the lowest at
which half of the shown lines are right. A wrong line costs the reader time, so a model that is often wrong should be
silent where it doubts.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blocklm.corpus.places.completion import COMPLETION
from blocklm.errors import UserError
from blocklm.files import write_json
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.report.editor import SILENCE
from blocklm.serving.engines.growing import Listener
from blocklm.serving.question import Gap, Limits, Question
from blocklm.serving.served import ServedRun

PLACES = 100
LINE_TOKENS = 48
RIGHT_SHARE = 0.5
MIN_SHOWN = 5  # a share of fewer lines says nothing


@dataclass(frozen=True, slots=True)
class Guess:
    """The probability of a first line that the model wrote, and whether the commit wrote the same."""

    probability: float
    right: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold, the share of lines that are shown with it, and the share of those that are right."""

    threshold: float
    shown: float
    right: float


def choose(guesses: Sequence[Guess]) -> tuple[float, list[Point]]:
    """Return the lowest threshold at which half of the shown lines are right, and the curve of all thresholds.

    If there is none, it is the one with the largest share, of those that show at least `MIN_SHOWN` lines.
    """
    ranked = sorted(guesses, key=lambda guess: -guess.probability)
    curve, right = [], 0
    for shown, guess in enumerate(ranked, 1):
        right += guess.right
        curve.append(Point(guess.probability, shown / len(ranked), right / shown))
    fair = [point for point in curve[MIN_SHOWN - 1 :] if point.right >= RIGHT_SHARE]
    best = fair[-1] if fair else max(curve[MIN_SHOWN - 1 :], key=lambda point: point.right, default=curve[-1])
    return best.threshold, curve


def measure(served: ServedRun) -> Iterator[Guess]:
    """Ask a run at places of its validation split, without context of the repository, which holds the answers.

    Raises:
        UserError: the repository cannot be read, or there are no such places.
    """
    run = served.prompts.run
    corpus = run.corpus()
    rows = [row for row, view in enumerate(corpus.splits["validation"]["view"]) if view == COMPLETION]
    chosen = corpus.splits["validation"].select(random.Random(0).sample(rows, min(PLACES, len(rows))))
    columns = corpus.places.fill(chosen[:], served.prompts.max_length)
    asked = [row for row, text in enumerate(columns["completion"]) if text]
    if not asked:
        raise UserError("there is no place to ask in the validation split", "train with the view `completion`")
    for row in asked:
        prompt, context, suffix = (columns[name][row] for name in ("prompt", "context", "suffix"))
        gap = Gap(prompt[slice(*context)], prompt[slice(*suffix)], columns["path"][row])
        limits = Limits(Decoding(LINE_TOKENS, stops=("\n",)))
        answer = served.answer(Question(gap, limits), Listener(lambda: False))
        right = answer.text.rstrip() == columns["completion"][row].partition("\n")[0].rstrip()
        yield Guess(answer.probability, right)


def write(run_dir: Path, guesses: Sequence[Guess]) -> tuple[float, list[Point]]:
    """Choose a threshold, and write it with its curve into a run's directory."""
    threshold, curve = choose(guesses)
    points = [asdict(point) for point in curve]
    write_json(run_dir / SILENCE, {"threshold": threshold, "places": len(guesses), "curve": points})
    return threshold, curve


def read(run_dir: Path) -> float:
    """Read the threshold of a run.

    Raises:
        UserError: none has been chosen.
    """
    try:
        return float(json.loads((run_dir / SILENCE).read_text(encoding="utf-8"))["threshold"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"no threshold has been chosen for `{run_dir}`", f"run `scripts/serve.py {run_dir} --choose_silence`"
        ) from None


def describe(name: str, threshold: float, curve: Sequence[Point]) -> Iterator[str]:
    """Yield the lines of a table: what is shown, and how much of it is right, by threshold."""
    yield f"{name}: silent where the first line is less likely than {threshold:.3g}"
    yield f"  {'threshold':>9s} {'shown':>7s} {'right':>7s}   of {len(curve)} places of the validation split"
    tenth = max(1, len(curve) // 10)
    for point in curve[tenth - 1 :: tenth]:
        yield f"  {point.threshold:9.3g} {100 * point.shown:5.0f} % {100 * point.right:5.0f} %"
