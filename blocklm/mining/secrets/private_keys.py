"""Finds private keys over several lines, in the format of PEM and PGP; a diff often shows only one end of a key."""

import re
from collections.abc import Iterator

ARMOUR = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
ARMOURED = re.compile(rb"[A-Za-z0-9+/=]*|(?:Proc-Type|DEK-Info|Version|Comment):.*")


def armoured_keys(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the lines of each private key, below a BEGIN or above an END.

    The line end before them is included. Lines may be prefixed by marks of a diff, comment or string. A key ends at
    the separator of two texts.
    """
    for match in ARMOUR.finditer(text):
        down = match[1] == b"BEGIN"
        at = edge = text.find(b"\n", match.start()) if down else text.rfind(b"\n", 0, match.start())
        while at > 0:
            following = text.find(b"\n", at + 1) if down else text.rfind(b"\n", 0, at)
            line = text[at + 1 : following] if down else text[following + 1 : at]
            if (
                following < 0
                or not ARMOURED.fullmatch(_bare(line))
                or (not line and text[following - 1 :][:1] == b"\n")
            ):
                break
            at = following
        start, end = (edge, at) if down else (at, edge)
        if end > start:
            yield start, end


def _bare(line: bytes) -> bytes:
    return line[line[:1] in (b" ", b"+", b"-") :].strip(b" \t\r\"'`,;#*+").removesuffix(b"\\n")
