"""Replaces credentials and people in texts by placeholders, before the texts are stored.

It uses our patterns and Kingfisher's rules, these offline only: its validators, which call the issuers, are never
imported. Secrets are counted by kind; their values are never logged.
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
from blocklm.mining.secrets.pattern import is_opaque, is_stand_in
from blocklm.mining.secrets.people import PEOPLE
from blocklm.mining.secrets.private_keys import armoured_keys
from blocklm.mining.secrets.search import find_secrets

KEY = b"<KEY>"
UNSCANNED = "unscanned"
# All texts are joined and searched at once, since a call per text would cost more than the search. This separates them.
BETWEEN = b"\n\n\n"
PLACEHOLDERS = ("<KEY>", "<PASSWORD>", "<EMAIL>", "<NAME>")
PERSONAL = frozenset(pattern.kind for pattern in PEOPLE)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets.

    Attributes:
        text: text with placeholders.
        kinds: kind of each secret, in order.
        opaque: secrets that can be recognised elsewhere by their value alone.
    """

    text: str
    kinds: tuple[str, ...] = ()
    opaque: tuple[Secret, ...] = ()

    @property
    def credentials(self) -> int:
        """Number of credentials; mail addresses and names do not count."""
        return sum(kind not in PERSONAL for kind in self.kinds)


@dataclass(frozen=True, slots=True, order=True)
class _Span:
    start: int
    end: int
    kind: str
    placeholder: bytes


def redact(texts: Sequence[str]) -> list[Redacted]:
    """Replace each secret by `<KEY>`, `<PASSWORD>`, `<EMAIL>` or `<NAME>`; line counts stay.

    A value found in one place is replaced everywhere in `texts`. The placeholders are single tokens of StarCoder2
    (Lozhkov et al. 2024, section 4.3) and plain words to every other model.

    Raises:
        Exception: the scanner failed; the caller must not store the texts.
    """
    parts = [text.encode() for text in texts]
    joined = BETWEEN + BETWEEN.join(parts) + BETWEEN  # the first byte must be no byte order mark
    starts = list(accumulate((len(part) + len(BETWEEN) for part in parts), initial=len(BETWEEN)))
    spans = _find_spans(joined)
    merged = _merge_overlaps(spans)
    result, index = [], 0
    for text, part, start in zip(texts, parts, starts, strict=False):
        while index < len(merged) and merged[index].end <= start:
            index += 1
        own = []
        while index < len(merged) and merged[index].start < start + len(part):
            own.append(merged[index])
            index += 1
        result.append(_replace_spans(part, start, own, _opaque(joined, spans, own)) if own else Redacted(text))
    return result


def redact_each(texts: Sequence[str]) -> dict[str, Redacted]:
    """Redact texts; a text on which the scanner fails is replaced by a placeholder, because it was not searched."""
    unique = list(dict.fromkeys(texts))
    try:
        return dict(zip(unique, redact(unique), strict=True))
    except Exception:  # a native library may raise anything
        if len(unique) == 1:
            return {unique[0]: Redacted(f"<{UNSCANNED}>", (UNSCANNED,))}
        return {text: result for text in unique for result in redact_each([text]).values()}


def secrets_of(text: str) -> frozenset[str]:
    """The credentials in a text, without people; to compare with others, never to show."""
    joined = BETWEEN + text.encode() + BETWEEN
    spans = (span for span in _merge_overlaps(_find_spans(joined)) if span.kind not in PERSONAL)
    return frozenset(joined[span.start : span.end].decode(errors="replace") for span in spans)


def prepare() -> None:
    """Start the scanner.

    Raises:
        UserError: the scanner does not start; every text would be dropped, one by one.
    """
    try:
        _scanner()
    except Exception as error:  # a native library may raise anything
        raise UserError(
            f"the secret scanner does not start: {error}", "run `pip install -r requirements.txt`"
        ) from error


def _find_spans(joined: bytes) -> list[_Span]:
    """The spans of all secrets, in order; spans of two rules may overlap."""
    plain = _without_diff_marks(joined)
    spans = sorted({*_scan(plain), *_match_patterns(plain), *_find_private_keys(joined)})
    return sorted({*spans, *_find_repeats(joined, spans)})


@cache
def _scanner() -> Any:
    """The scanner; compiling its rules takes seconds the first time on a machine, a third of a second later."""
    return Scanner()


def _scan(joined: bytes) -> Iterator[_Span]:
    for finding in _scanner().scan(joined):
        if not finding.visible:  # an account name that only completes a secret
            continue
        location, secret = finding.location, finding.secret.encode()
        start, end = location["start_offset"], location["end_offset"]
        position = joined.find(secret, start, end)
        if position >= 0:  # else it was decoded from base64, and all of the encoded text is replaced
            start, end = position, position + len(secret)
        if end > start and not is_stand_in(joined[start:end]):
            yield _Span(start, end, str(finding.rule_id).rpartition("betterleaks.")[2], KEY)


def _without_diff_marks(joined: bytes) -> bytes:
    """Blank the marks of diff lines (`-sk-...` is a removed `sk-...`), but not the first dash of a private key."""
    plain = joined.replace(b"\n+", b"\n ").replace(b"\n-", b"\n ")
    return plain.replace(b"\n ----BEGIN", b"\n-----BEGIN").replace(b"\n ----END", b"\n-----END")


def _find_private_keys(joined: bytes) -> Iterator[_Span]:
    for start, end in armoured_keys(joined):
        yield _Span(start, end, "private_key", KEY)


def _match_patterns(joined: bytes) -> Iterator[_Span]:
    for match, pattern in find_secrets(joined):
        yield _Span(*match.span("secret"), pattern.kind, pattern.placeholder)


def _find_repeats(joined: bytes, spans: Sequence[_Span]) -> Iterator[_Span]:
    """The same values in other places, where no rule recognises them."""
    values = {secret.value: secret for secret in reversed(_opaque(joined, spans, spans))}
    if values:
        known = list(values.values())
        for which, start, end in BytesAhoCorasick([secret.value for secret in known]).find_matches_as_indexes(
            joined, overlapping=True
        ):
            yield _Span(start, end, known[which].kind, known[which].placeholder.encode())


def _opaque(joined: bytes, spans: Sequence[_Span], within: Sequence[_Span]) -> list[Secret]:
    """The secrets inside the spans `within` that can be recognised elsewhere by their value alone."""
    if not within:
        return []
    first = bisect_left(spans, within[0].start, key=lambda span: span.start)
    last = bisect_left(spans, within[-1].end, key=lambda span: span.start)
    return [
        Secret(value, span.kind, span.placeholder.decode())
        for span in spans[first:last]
        if span.kind not in PERSONAL and is_opaque(value := joined[span.start : span.end])
    ]


def _merge_overlaps(spans: Sequence[_Span]) -> list[_Span]:
    """Merge overlapping spans; the first and longest gives the kind."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.kind)):
        if merged and span.start < merged[-1].end:
            first = merged[-1]
            merged[-1] = _Span(first.start, max(first.end, span.end), first.kind, first.placeholder)
        else:
            merged.append(span)
    return merged


def _replace_spans(part: bytes, offset: int, spans: Sequence[_Span], opaque: Sequence[Secret]) -> Redacted:
    pieces, copied = [], 0
    for span in spans:
        start, end = max(0, span.start - offset), min(len(part), span.end - offset)
        pieces += [part[copied:start], _hide(part[start:end], span.placeholder)]
        copied = end
    kinds = tuple(span.kind for span in spans)
    return Redacted(b"".join([*pieces, part[copied:]]).decode(), kinds, tuple(opaque))


def _hide(secret: bytes, placeholder: bytes) -> bytes:
    """Replace a secret; one of several lines gets a placeholder on each, behind the line's diff mark."""
    first, *rest = secret.split(b"\n")
    marked = [line[: line[:1] in (b" ", b"+", b"-")] + placeholder if line.strip(b" +-") else line for line in rest]
    return b"\n".join([placeholder if first else b"", *marked])
