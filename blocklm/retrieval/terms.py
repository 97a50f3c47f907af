"""The words of code, as a search compares them: identifiers in parts, in lower case."""

import re

# `parseHTTPHeader_v2` is parse, http, header, v2: runs of capitals end before the last one if a small letter follows.
PART = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
IDENTIFIER = re.compile(r"\w+")


def terms(text: str) -> list[str]:
    """The parts of all identifiers, and each identifier of several parts as a whole."""
    found = []
    for word in IDENTIFIER.findall(text):
        parts = PART.findall(word)
        found += [part.lower() for part in parts]
        if len(parts) != 1:
            found.append(word.lower())
    return found
