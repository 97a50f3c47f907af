"""Defines the pattern of one kind of secret, and guards that reject texts which only look like a secret.

To be fast, each pattern is tried only on lines with one of its words. The guards follow BigCode's pipeline
(`pii/utils/keys_detection.py`).
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Guard = Callable[[re.Match[bytes]], bool]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pattern of one kind of secret.

    Attributes:
        kind: name of the kind in reports.
        words: lower-case words, one of which a line must hold to be searched.
        regex: expression whose group `secret` is the text to hide.
        accepts: guard that rejects texts which only look like a secret.
        placeholder: replacement for the secret.
        lines: number of lines to search, from the line with the word on.
    """

    kind: str
    words: tuple[bytes, ...]
    regex: re.Pattern[bytes]
    accepts: Guard
    placeholder: bytes
    lines: int = 1


# What people write where a secret belongs.
STAND_IN = re.compile(
    rb"example|sample|dummy|placeholder|change.?me|your[_-]?|redacted|fake|x{4}|\*{3}|\.{3}|1234567|abcdefg|0{8}"
    rb"|^<.*>$|^\{.*\}$|^\$\w+$|^@\w+:|\$[({]|\{\{|%\(|%[sdv]$",  # variables of templates
    re.IGNORECASE,
)
STAND_IN_WORDS = {b"pass", b"password", b"passwd", b"pwd", b"secret", b"token", b"key"}
TEST_WORD = re.compile(
    rb"test|foo|bar|todo|none|null|mock|lorem|secret|token|passw|string|value|undefined", re.IGNORECASE
)
MIN_ENTROPY = 3.0  # bits per character; words and repetitions lie below, random strings of sixteen characters above
MIN_RANDOM_CHARS, MIN_RANDOM_RUN = 16, 12
MIN_OPAQUE_CHARS, MAX_OPAQUE_CHARS = 10, 4096
MIN_TURNS, PASSWORD_TURNS, SURE_TURNS = 0.25, 0.35, 0.4
RUNS = re.compile(rb"[A-Za-z0-9+=]+")
# A run that is long enough and holds a digit: `is_random` accepts no text without one.
RANDOM_RUN = re.compile(rb"(?<![A-Za-z0-9+=])(?=[A-Za-z+=]*[0-9])[A-Za-z0-9+=]{%d}" % MIN_RANDOM_RUN)


def is_stand_in(text: bytes) -> bool:
    """Whether a text only stands in for a secret, such as `your-token-here`."""
    return bool(STAND_IN.search(text)) or text.lower() in STAND_IN_WORDS


def always(_: re.Match[bytes]) -> bool:
    """The guard of patterns that match nothing but secrets."""
    return True


def is_no_stand_in(match: re.Match[bytes]) -> bool:
    """Whether the value does not just stand in for a secret."""
    return not is_stand_in(match["secret"])


def is_random(text: bytes) -> bool:
    """Whether the text looks drawn at random: long, of high entropy, and letters and digits in short turns.

    It is judged by its longest run without punctuation: names of models, files and versions are many short ones.
    """
    run = max(RUNS.findall(text), key=len, default=b"")
    if len(text) < MIN_RANDOM_CHARS or len(run) < MIN_RANDOM_RUN or STAND_IN.search(text) or TEST_WORD.search(text):
        return False
    digits, turns = _digits(run), _turns(run)
    drawn = (digits >= 2 and turns >= MIN_TURNS) or (digits == 1 and turns >= SURE_TURNS)
    return drawn and _entropy(run) >= MIN_ENTROPY


def is_opaque(text: bytes) -> bool:
    """Whether a secret is so long and mixed that the same text elsewhere must be the same secret; `changeme` is not."""
    if not MIN_OPAQUE_CHARS <= len(text) <= MAX_OPAQUE_CHARS or re.search(rb"\s|<(?:KEY|PASSWORD|EMAIL|NAME)>", text):
        return False
    if STAND_IN.search(text) or TEST_WORD.search(text) or not _digits(text) or not re.search(rb"[A-Za-z]", text):
        return False
    return _turns(text) >= MIN_TURNS and _entropy(text) >= MIN_ENTROPY


def _entropy(text: bytes) -> float:
    """Bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _digits(text: bytes) -> int:
    return sum(48 <= byte < 58 for byte in text)


def _turns(text: bytes) -> float:
    """The share of neighbouring characters of different classes: 0.6 at random, 0.3 in CamelCase2Names."""
    return sum(one != other for one, other in pairwise(map(_class, text))) / max(1, len(text))


def _class(byte: int) -> int:
    return (48 <= byte < 58) + 2 * (65 <= byte < 91) + 3 * (97 <= byte < 123)


def has_random_value(match: re.Match[bytes]) -> bool:
    """Whether the value looks drawn at random."""
    return is_random(match["secret"])


def is_password(match: re.Match[bytes]) -> bool:
    """Whether the value mixes letters with others, and is neither a stand-in nor code."""
    value = match["secret"]
    mixed = re.search(rb"[A-Za-z]", value) and re.search(rb"[^A-Za-z_. /:-]", value)
    return bool(mixed) and not STAND_IN.search(value) and not re.search(rb"[(){}\[\]]|://|\\[nu]", value)


def is_strong_password(match: re.Match[bytes]) -> bool:
    """Whether the value can be no name in a program: it looks random, or holds digits and punctuation."""
    value = match["secret"]
    if is_stand_in(value) or not _digits(value) or not re.search(rb"[A-Za-z]", value):
        return False
    return bool(re.search(rb"[!@#$%^&*+?~]", value)) or _turns(value) >= PASSWORD_TURNS


def is_literal_password(match: re.Match[bytes]) -> bool:
    """Whether the value passes `is_password` and is no word that tests, labels and documentation use as a value."""
    return is_password(match) and not TEST_WORD.search(match["secret"])


def is_strong_literal(match: re.Match[bytes]) -> bool:
    """Whether the value passes `is_strong_password` and is no word that tests and documentation use as a value."""
    return is_strong_password(match) and not TEST_WORD.search(match["secret"])


def pattern(
    kind: str, word: str, regex: str, accepts: Guard = is_no_stand_in, hide: str = "KEY", lines: int = 1
) -> Pattern:
    """Make a pattern from texts.

    Args:
        kind: name of the kind in reports.
        word: lower-case words divided by `|`, one of which a line must hold to be searched.
        regex: expression with the group `secret`.
        accepts: guard that rejects texts which only look like a secret.
        hide: placeholder without its angle brackets.
        lines: number of lines to search, from the line with the word on.
    """
    words = tuple(part.encode() for part in word.split("|"))
    return Pattern(kind, words, re.compile(regex.encode()), accepts, f"<{hide}>".encode(), lines)
