"""Remembers found secrets by keyed digests, and finds the same values in other texts.

A value is found by two digests: 20 bits of its first eight bytes, compared at every byte of a text at once, and where
these agree BLAKE2b of the full value. Neither reveals the value, not even to somebody with the key.
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
CHUNK = 1 << 20  # bytes compared at once: their anchors fit into the processor's cache
KEY_FILE = ".redaction-key"


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that was found, in memory only."""

    value: bytes = field(repr=False)
    kind: str
    placeholder: str


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """The stored facts about a secret: enough to find its value, too little to reveal it."""

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
        """A digest that distinguishes this key from others."""
        return self.digest(b"")

    @cached_property
    def multiplier(self) -> np.uint64:
        """The odd number by which eight bytes of a text are multiplied to give their anchor."""
        return np.uint64(int.from_bytes(blake2b(b"anchor", key=self.secret, digest_size=8).digest(), "little") | 1)

    def digest(self, value: bytes) -> str:
        """The keyed digest of a value."""
        return blake2b(value, key=self.secret, digest_size=16).hexdigest()

    def anchors(self, text: bytes | memoryview) -> np.ndarray[Any, Any]:
        """The anchor of the eight bytes from each position of a text on; none for the last seven."""
        windows = np.ndarray((max(0, len(text) - ANCHOR_BYTES + 1),), "<u8", text, strides=(1,))
        return (windows * self.multiplier) >> np.uint64(64 - ANCHOR_BITS)

    def known(self, secret: Secret) -> KnownSecret:
        """The stored facts about a secret of at least eight bytes."""
        anchor = int(self.anchors(secret.value[:ANCHOR_BYTES])[0])
        return KnownSecret(self.digest(secret.value), anchor, len(secret.value), secret.kind, secret.placeholder)


@dataclass(frozen=True)
class KnownSecrets:
    """All known secrets of a history.

    Secrets are replaced one after the other, so that replacing some now and the others later gives the same text.

    Attributes:
        key: key of the digests.
        secrets: secrets in the order in which they were found first.
        origin: name of the dataset in which they were found.
    """

    key: Key
    secrets: tuple[KnownSecret, ...] = ()
    origin: str = ""

    @classmethod
    def of(cls, key: Key, found: Iterable[KnownSecret], origin: str = "") -> "KnownSecrets":
        """Keep the first secret of each value."""
        first: dict[str, KnownSecret] = {}
        for secret in found:
            first.setdefault(secret.digest, secret)
        return cls(key, tuple(first.values()), origin)

    def stand_in(self, text: bytes | memoryview) -> bool:
        """Whether a text holds a known secret."""
        return bool(self.secrets) and any(True for _ in self._places(text))

    def find(self, text: bytes) -> list[tuple[int, int, int]]:
        """The known secrets in a text, in order, as (start, end, rank); of two that overlap, the lower rank."""
        taken: list[tuple[int, int, int]] = []
        for rank, start, end in sorted(self._places(text)) if self.secrets else ():
            at = bisect_left(taken, (start,))
            if (at == 0 or taken[at - 1][1] <= start) and (at == len(taken) or end <= taken[at][0]):
                taken.insert(at, (start, end, rank))
        return taken

    def replace(self, text: str) -> tuple[str, list[int]]:
        """Replace the known secrets in a text.

        Returns:
            The text, and the ranks of the replaced secrets in the text's order.
        """
        encoded = text.encode()
        spans = self.find(encoded)
        if not spans:
            return text, []
        pieces, copied = [], 0
        for start, end, rank in spans:
            pieces += [encoded[copied:start], self.secrets[rank].placeholder.encode()]
            copied = end
        return b"".join([*pieces, encoded[copied:]]).decode(), [rank for *_, rank in spans]

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
