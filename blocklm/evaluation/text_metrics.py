"""Measures how close a text is to its reference, as pure functions of single texts.

`blocklm/evaluation/metrics/` offers them as modules of the library `evaluate`. They do not use it themselves, because
in a script the name `evaluate` is our own `scripts/evaluate.py`.
"""

import ast
from collections.abc import Collection, Sequence
from textwrap import dedent

from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.chrf import CHRF

from blocklm.corpus.syntax import syntax


def exact_match(prediction: str, reference: str) -> float:
    """Return 1 if both texts are equal but for white space at the ends of lines and of the text, else 0."""
    return float(_strip_lines(prediction) == _strip_lines(reference))


def edit_similarity(prediction: str, reference: str) -> float:
    """Return 1 minus Levenshtein's distance over the length of the longer text, in characters; 1 is an exact match.

    Others give this name to `fuzz.ratio`, which has no substitutions, or to difflib's ratio. For one pair of texts the
    three measures gave 0.21, 0.30 and 0.26.
    """
    return float(Levenshtein.normalized_similarity(_strip_lines(prediction), _strip_lines(reference)))


def gain(similarity: float, floor: float) -> float | None:
    """Return the share of the distance from the floor to 1 that the similarity covers; None if the floor is 1.

    The floor is the similarity of the unchanged text, which is high if a change replaces a single word. A gain below 0
    means that copying the text would have been better. Both arguments are means over the same items.
    """
    return (similarity - floor) / (1 - floor) if floor < 1 else None


def chrf(prediction: str, reference: str) -> float:
    """Return sacreBLEU's chrF2 of a text, 0 to 100: character 1- to 6-grams, recall counting twice (Popović 2016)."""
    return float(CHRF().sentence_score(prediction, [reference]).score)


def reciprocal_rank(ranking: Sequence[str], wanted: Collection[str]) -> float:
    """Return 1 over the rank of the first wanted answer in a ranking, best first; 0 if it has none."""
    return next((1 / rank for rank, answer in enumerate(ranking, 1) if answer in wanted), 0.0)


def identifier_f1(prediction: str, reference: str, language: str | None) -> float | None:
    """Return the F1 of the names in two texts, 0 to 1; None without a grammar or if the reference has no names.

    Names are the distinct identifiers that the grammar finds, without keywords, strings and comments. (CrossCodeEval's
    patterns take Rust's `#[derive]` and URLs for comments.)
    """
    found, wanted = syntax(prediction, language), syntax(reference, language)
    if found is None or wanted is None or not wanted.identifiers:
        return None
    common = len(found.identifiers & wanted.identifiers)
    return 2 * common / (len(found.identifiers) + len(wanted.identifiers))


def parse_valid(
    prediction: str, reference: str, language: str | None, prefix: str = "", suffix: str = ""
) -> float | None:
    """Return 1 if the file would still parse with the prediction for the reference, else 0; None without a grammar.

    Only a window of the file is known, and only 10 to 40 % of real windows with 3 lines of context are well-formed by
    themselves. So the window with the prediction is compared with the window as the commit left it. The prediction is
    valid if its window

    - has no more errors by the language's tree-sitter grammar,
    - leaves the same brackets without a partner, because their partners are outside the window, and
    - in Python, is accepted by Python's own parser if the commit's window is: the grammar accepts `print 'hi'` and
      wrong indentation.

    A prediction of white space alone is not valid. In 8,700 windows of click, ripgrep and the-block, this refused 84 to
    96 % of references that lost one bracket (of code or of text), and 0 to 2.4 % of those with one changed name.
    """
    ours, theirs = dedent(prefix + prediction + suffix), dedent(prefix + reference + suffix)
    found, wanted = syntax(ours, language), syntax(theirs, language)
    if found is None or wanted is None:
        return None
    fits = bool(prediction.strip()) and found.flaws <= wanted.flaws and found.brackets == wanted.brackets
    if language == "Python" and fits:
        fits = _python_accepts(ours) or not _python_accepts(theirs)
    return float(fits)


def _strip_lines(text: str) -> str:
    """Strip white space from the ends of a text's lines and of the text."""
    return "\n".join(line.rstrip() for line in text.rstrip().split("\n"))


def _python_accepts(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two from deeply nested text
        return False
    return True
