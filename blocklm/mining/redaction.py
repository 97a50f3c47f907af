"""Credentials and people taken out of texts before they are written anywhere.

Two layers: our patterns, and Kingfisher's rules, used offline only (its validators call the issuers and are
never imported). Values are never logged or counted; kinds are.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

from ahocorasick_rs import BytesAhoCorasick
from kingfisher_sdk import Scanner

from blocklm.errors import UserError
from blocklm.mining.secrets.known import Secret
from blocklm.mining.secrets.named import NAMED
from blocklm.mining.secrets.pattern import is_opaque, is_stand_in
from blocklm.mining.secrets.people import PEOPLE
from blocklm.mining.secrets.private_keys import armoured_keys
from blocklm.mining.secrets.vendors import VENDORS

KEY = b"<KEY>"
# All texts are searched as one: a call per text would cost more than the search. Three line ends keep them apart.
BETWEEN = b"\n\n\n"
PLACEHOLDERS = ("<KEY>", "<PASSWORD>", "<EMAIL>", "<NAME>")
ALL_PATTERNS = (*VENDORS, *NAMED, *PEOPLE)
# Each word, and the patterns that cannot match on a line without one of their words.
WORDS = [
    (word, [number for number, pattern in enumerate(ALL_PATTERNS) if word in pattern.words])
    for word in sorted({word for pattern in ALL_PATTERNS for word in pattern.words})
]
PERSONAL = frozenset(pattern.kind for pattern in PEOPLE)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, the kind of each that it had, and those that can be known elsewhere by their value."""

    text: str
    kinds: tuple[str, ...] = ()
    opaque: tuple[Secret, ...] = ()

    @property
    def credentials(self) -> int:
        """How many credentials it had; mail addresses and names are none."""
        return sum(kind not in PERSONAL for kind in self.kinds)


@dataclass(frozen=True, slots=True, order=True)
class _Span:
    start: int
    end: int
    kind: str
    placeholder: bytes


def redact(texts: Sequence[str]) -> list[Redacted]:
    """Replace what is secret in each text by `<KEY>`, `<PASSWORD>`, `<EMAIL>` or `<NAME>`; line counts stay.

    A value found once is replaced wherever it stands in `texts`. The placeholders are single tokens of StarCoder2
    (Lozhkov et al. 2024, section 4.3) and plain words to every other model.

    Raises:
        Exception: whatever the scanner raises; the caller must not keep the texts then.
    """
    parts = [text.encode() for text in texts]
    joined = BETWEEN + BETWEEN.join(parts) + BETWEEN  # the first byte must be no byte order mark
    starts = list(accumulate((len(part) + len(BETWEEN) for part in parts), initial=len(BETWEEN)))
    spans = _found(joined)
    apart = _apart(spans)
    result, at = [], 0
    for text, part, start in zip(texts, parts, starts, strict=False):
        while at < len(apart) and apart[at].end <= start:
            at += 1
        here = []
        while at < len(apart) and apart[at].start < start + len(part):
            here.append(apart[at])
            at += 1
        result.append(_replaced(part, start, here, _opaque(joined, spans, here)) if here else Redacted(text))
    return result


def secrets_of(text: str) -> frozenset[str]:
    """The credentials that stand in a text; people are none. They are for comparing, never for showing."""
    joined = BETWEEN + text.encode() + BETWEEN
    found = (span for span in _apart(_found(joined)) if span.kind not in PERSONAL)
    return frozenset(joined[span.start : span.end].decode(errors="replace") for span in found)


def prepare() -> None:
    """Start the scanner.

    Raises:
        UserError: it does not start; without it every text would be dropped, one by one.
    """
    try:
        _scanner()
    except Exception as error:  # a native library: whatever it raises
        raise UserError(f"the secret scanner does not start: {error}", "`pip install -r requirements.txt`") from error


def _found(joined: bytes) -> list[_Span]:
    """What is secret in the texts, by place; what two rules found may overlap."""
    plain = _unmarked(joined)
    spans = sorted({*_scanned(plain), *_matched(plain), *_armoured(joined)})
    return sorted({*spans, *_repeated(joined, spans)})


@cache
def _scanner() -> Any:
    """Compiling the rules takes seconds the first time on a machine, a third of one later."""
    return Scanner()


def _scanned(joined: bytes) -> Iterator[_Span]:
    for finding in _scanner().scan(joined):
        if not finding.visible:  # an account name that only completes a secret
            continue
        place, secret = finding.location, finding.secret.encode()
        start, end = place["start_offset"], place["end_offset"]
        within = joined.find(secret, start, end)
        if within >= 0:  # else it was decoded from base64: all of that goes
            start, end = within, within + len(secret)
        if end > start and not is_stand_in(joined[start:end]):
            yield _Span(start, end, str(finding.rule_id).rpartition("betterleaks.")[2], KEY)


def _unmarked(joined: bytes) -> bytes:
    """Blanks for the marks of diff lines (`-sk-...` is a removed `sk-...`), but not for the first dash before a key."""
    plain = joined.replace(b"\n+", b"\n ").replace(b"\n-", b"\n ")
    return plain.replace(b"\n ----BEGIN", b"\n-----BEGIN").replace(b"\n ----END", b"\n-----END")


def _armoured(joined: bytes) -> Iterator[_Span]:
    for start, end in armoured_keys(joined):
        yield _Span(start, end, "private_key", KEY)


def _matched(joined: bytes) -> Iterator[_Span]:
    searched = [0] * len(ALL_PATTERNS)
    for number, at, _ in _words().find_matches_as_indexes(joined.lower().replace(b"@@", b"  "), overlapping=True):
        for which in WORDS[number][1]:
            if at < searched[which]:
                continue  # another word stood on the same line
            pattern, end = ALL_PATTERNS[which], joined.find(b"\n", at)
            searched[which] = end
            last = end if pattern.lines == 1 else joined.find(b"\n", end + 1)
            for match in pattern.regex.finditer(joined, joined.rfind(b"\n", 0, at) + 1, last):
                if pattern.accepts(match):
                    yield _Span(*match.span("secret"), pattern.kind, pattern.placeholder)


@cache
def _words() -> BytesAhoCorasick:
    return BytesAhoCorasick([word for word, _ in WORDS])


def _repeated(joined: bytes, spans: Sequence[_Span]) -> Iterator[_Span]:
    """The same values elsewhere, where nothing around them gave them away."""
    values = {secret.value: secret for secret in reversed(_opaque(joined, spans, spans))}
    if values:
        known = list(values.values())
        for which, start, end in BytesAhoCorasick([secret.value for secret in known]).find_matches_as_indexes(
            joined, overlapping=True
        ):
            yield _Span(start, end, known[which].kind, known[which].placeholder.encode())


def _opaque(joined: bytes, spans: Sequence[_Span], within: Sequence[_Span]) -> list[Secret]:
    """The values, found by any rule inside of some spans, that are known wherever they stand."""
    if not within:
        return []
    first = bisect_left(spans, within[0].start, key=lambda span: span.start)
    last = bisect_left(spans, within[-1].end, key=lambda span: span.start)
    return [
        Secret(value, span.kind, span.placeholder.decode())
        for span in spans[first:last]
        if span.kind not in PERSONAL and is_opaque(value := joined[span.start : span.end])
    ]


def _apart(spans: Sequence[_Span]) -> list[_Span]:
    """Of overlapping spans one that covers all; the first and longest gives its kind."""
    apart: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.kind)):
        if apart and span.start < apart[-1].end:
            first = apart[-1]
            apart[-1] = _Span(first.start, max(first.end, span.end), first.kind, first.placeholder)
        else:
            apart.append(span)
    return apart


def _replaced(part: bytes, offset: int, spans: Sequence[_Span], opaque: Sequence[Secret]) -> Redacted:
    pieces, at = [], 0
    for span in spans:
        start, end = max(0, span.start - offset), min(len(part), span.end - offset)
        pieces += [part[at:start], _hidden(part[start:end], span.placeholder)]
        at = end
    kinds = tuple(span.kind for span in spans)
    return Redacted(b"".join([*pieces, part[at:]]).decode(), kinds, tuple(opaque))


def _hidden(secret: bytes, placeholder: bytes) -> bytes:
    """The placeholder; on each line of a secret that has several, after the mark that a diff gives the line."""
    first, *below = secret.split(b"\n")
    marked = [line[: line[:1] in (b" ", b"+", b"-")] + placeholder if line.strip(b" +-") else line for line in below]
    return b"\n".join([placeholder if first else b"", *marked])
