"""Measures what a developer would feel of an answer in the editor, as pure functions of single texts."""

from collections import Counter
from statistics import fmean

MAX_ORDER = 6  # characters of an n-gram
RECALL_WEIGHT = 2.0


def first_line_match(prediction: str, reference: str) -> float:
    """Return 1 if the first lines of both texts are equal but for white space at their ends, else 0."""
    return float(_lines(prediction)[0] == _lines(reference)[0])


def accepted_share(prediction: str, reference: str) -> float:
    """Return the share of the reference that accepting right lines would have typed, in characters, 0 to 1.

    A developer accepts line after line until one is wrong. White space at the ends of lines is ignored. A reference
    without characters is typed in full by an answer without any.
    """
    wanted = _lines(reference)
    size = sum(map(len, wanted))
    if not size:
        return float(not prediction.strip())
    accepted = 0
    for line, right in zip(_lines(prediction), wanted, strict=False):
        if line != right:
            break
        accepted += len(right)
    return accepted / size


def delta_chrf(before: str, prediction: str, reference: str) -> float:
    """Return the chrF2 of two changes of the same text, 0 to 100: what the answer changes, and what the commit changed.

    N-grams of 1 to 6 characters, without white space, that a change adds or removes are compared, so that copying the
    text scores 0 where something was to change (as Zed's `delta_chr_f` in crates/edit_prediction_cli/src/metrics.rs;
    its later version weighs recall less). Where nothing was to change, a copy scores 100 and any other answer 0.
    """
    old, ours, theirs = ("".join(text.split()) for text in (before, prediction, reference))
    if theirs == old:
        return 100.0 * (ours == old)
    precisions, recalls = [], []
    for order in range(1, MAX_ORDER + 1):
        made, wanted = _changed_ngrams(old, ours, order), _changed_ngrams(old, theirs, order)
        common = (made & wanted).total()
        if made or wanted:
            precisions.append(common / made.total() if made else 0.0)
            recalls.append(common / wanted.total() if wanted else 0.0)
    precision, recall = fmean(precisions), fmean(recalls)
    weight = RECALL_WEIGHT**2
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def is_quiet(before: str, prediction: str) -> float:
    """Return 1 if an answer leaves a text as it is, else 0; white space at ends of lines and of the text is ignored."""
    return float(_lines(before.rstrip()) == _lines(prediction.rstrip()))


def _changed_ngrams(before: str, after: str, order: int) -> Counter[tuple[bool, str]]:
    """Count the n-grams that a change adds (True) and removes (False)."""
    old, new = _ngrams(before, order), _ngrams(after, order)
    return Counter(
        {
            **{(True, ngram): count for ngram, count in (new - old).items()},
            **{(False, ngram): count for ngram, count in (old - new).items()},
        }
    )


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n")]
