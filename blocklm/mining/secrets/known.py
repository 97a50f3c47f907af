"""Secrets that were found once, known by keyed digests, and found again wherever they stand.

A value is found by two digests: 20 bits of its first eight bytes, which are compared at every byte of a text at once, and
BLAKE2b of the whole value where these agree. Neither gives the value away, not even to who has the key.
"""

import secrets
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

ANCHOR_BYTES, ANCHOR_BITS = 8, 20
CHUNK = 1 << 20  # bytes looked at together: the numbers made of them stay in the processor's cache
KEY_FILE = ".redaction-key"


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that was found, in memory only."""

    value: bytes = field(repr=False)
    kind: str
    placeholder: str


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """What is kept of a value: enough to find it and too little to tell it."""

    digest: str
    anchor: int
    length: int
    kind: str
    placeholder: str


@dataclass(frozen=True)
class Key:
    """The key of the digests in one corpus directory."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, corpus_dir: Path) -> "Key":
        """The key in a corpus directory, made now if it has none; only its owner may read it."""
        path = corpus_dir / KEY_FILE
        if not path.exists():
            corpus_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    fresh = path.with_suffix(".new")
                    fresh.touch(0o600)
                    fresh.write_bytes(secrets.token_bytes(32))
                    fresh.rename(path)
        return cls(path.read_bytes()[:64])

    @property
    def name(self) -> str:
        """What tells it from other keys."""
        return self.digest(b"")

    @cached_property
    def multiplier(self) -> np.uint64:
        """The odd number that makes the first eight bytes of a value an anchor."""
        return np.uint64(int.from_bytes(blake2b(b"anchor", key=self.secret, digest_size=8).digest(), "little") | 1)

    def digest(self, value: bytes) -> str:
        """The keyed digest of a value."""
        return blake2b(value, key=self.secret, digest_size=16).hexdigest()

    def anchors(self, text: bytes | memoryview) -> np.ndarray[Any, Any]:
        """The anchor of the eight bytes at each byte of a text, as far as there are eight."""
        windows = np.ndarray((max(0, len(text) - ANCHOR_BYTES + 1),), "<u8", text, strides=(1,))
        return (windows * self.multiplier) >> np.uint64(64 - ANCHOR_BITS)

    def known(self, secret: Secret) -> KnownSecret:
        """What is kept of a value of at least eight bytes."""
        anchor = int(self.anchors(secret.value[:ANCHOR_BYTES])[0])
        return KnownSecret(self.digest(secret.value), anchor, len(secret.value), secret.kind, secret.placeholder)


@dataclass(frozen=True)
class KnownSecrets:
    """Secrets in the order in which they were found first; `origin` names what they were found in.

    They are replaced one after the other, so that replacing some now and the others later gives the same text.
    """

    key: Key
    secrets: tuple[KnownSecret, ...] = ()
    origin: str = ""

    @classmethod
    def of(cls, key: Key, found: Iterable[KnownSecret], origin: str = "") -> "KnownSecrets":
        """The first of each value."""
        first: dict[str, KnownSecret] = {}
        for secret in found:
            first.setdefault(secret.digest, secret)
        return cls(key, tuple(first.values()), origin)

    def stand_in(self, text: bytes | memoryview) -> bool:
        """Whether a text holds one of them."""
        return bool(self.secrets) and any(True for _ in self._places(text))

    def find(self, text: bytes) -> list[tuple[int, int, int]]:
        """Where they stand, as (start, end, rank), by place; of two that overlap the one that was known first."""
        taken: list[tuple[int, int, int]] = []
        for rank, start, end in sorted(self._places(text)) if self.secrets else ():
            at = bisect_left(taken, (start,))
            if (at == 0 or taken[at - 1][1] <= start) and (at == len(taken) or end <= taken[at][0]):
                taken.insert(at, (start, end, rank))
        return taken

    def replace(self, text: str) -> tuple[str, list[int]]:
        """The text without them, and the rank of what was at each place."""
        coded = text.encode()
        found = self.find(coded)
        if not found:
            return text, []
        pieces, at = [], 0
        for start, end, rank in found:
            pieces += [coded[at:start], self.secrets[rank].placeholder.encode()]
            at = end
        return b"".join([*pieces, coded[at:]]).decode(), [rank for *_, rank in found]

    @cached_property
    def _by_anchor(self) -> Mapping[int, Sequence[tuple[int, KnownSecret]]]:
        grouped: dict[int, list[tuple[int, KnownSecret]]] = {}
        for rank, secret in enumerate(self.secrets):
            grouped.setdefault(secret.anchor, []).append((rank, secret))
        return grouped

    @cached_property
    def _is_anchor(self) -> np.ndarray[Any, Any]:
        table = np.zeros(1 << ANCHOR_BITS, bool)
        table[list(self._by_anchor)] = True
        return table

    def _places(self, text: bytes | memoryview) -> Iterable[tuple[int, int, int]]:
        for chunk in range(0, len(text), CHUNK):
            anchors = self.key.anchors(text[chunk : chunk + CHUNK + ANCHOR_BYTES - 1])
            for at in np.flatnonzero(self._is_anchor[anchors]).tolist():
                for rank, secret in self._by_anchor[int(anchors[at])]:
                    start, end = chunk + at, chunk + at + secret.length
                    if end <= len(text) and self.key.digest(bytes(text[start:end])) == secret.digest:
                        yield rank, start, end
