"""Authors of commits as pseudonyms, and the recognition of bots."""

import re
from functools import lru_cache
from hashlib import blake2s

# Matched against the full name: a rule that looks for "bot" anywhere also drops Abbott and Talbot.
BOT = re.compile(
    r".*\[bot\]|.*[-_ ]bot|(?:dependabot|renovate|github-actions|pre-commit-ci|greenkeeper|snyk|mergify|bors|homu|codecov|"
    r"allcontributors|imgbot|weblate|crowdin|semantic-release|pyup|travis-ci|jenkins)(?:-?(?:bot|preview|app))?",
    re.IGNORECASE,
)
# GitHub's private mail addresses: 49699333+dependabot[bot]@users.noreply.github.com
NOREPLY_ID = re.compile(r"^\d+\+")


@lru_cache(maxsize=4096)
def pseudonym(name: str, mail: str, salt: bytes) -> str:
    """Twelve hex digits for one identity in one repository; without its history they cannot be traced to a person."""
    return blake2s(f"{name} <{mail}>".encode("utf-8", "surrogateescape"), key=salt, digest_size=6).hexdigest()


@lru_cache(maxsize=4096)
def is_bot(name: str, mail: str) -> bool:
    """Whether the name, or the mail address before its @, is that of a known or declared bot."""
    local = NOREPLY_ID.sub("", mail.partition("@")[0])
    return bool(BOT.fullmatch(name.strip()) or BOT.fullmatch(local))
