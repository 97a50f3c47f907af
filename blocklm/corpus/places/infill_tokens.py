"""Finds the special tokens with which a model marks a gap, for programs that build prompts themselves."""

from dataclasses import dataclass

from blocklm.corpus.prompt_templates import FAMILIES, TOKEN, readable


@dataclass(frozen=True, slots=True)
class InfillTokens:
    """The special tokens with which a model marks a gap.

    Attributes:
        prefix: token before the text that precedes the gap.
        suffix: token before the text that follows it.
        middle: token before the missing text.
        files: tokens before the repository's name and before a file; empty if the vocabulary lacks one of them.
    """

    prefix: str
    suffix: str
    middle: str
    files: tuple[str, ...]


def infill_tokens(special_tokens: frozenset[str]) -> InfillTokens | None:
    """Find the tokens with which a vocabulary marks a gap; None if it has none.

    Families that the vocabulary can read are tried before those of which it has only the tokens for gaps.
    """
    for family in (*readable(special_tokens), *FAMILIES):
        *files, prefix, suffix, middle = TOKEN.findall(family.prompts["completion"]) or [""] * 3
        if {prefix, suffix, middle} <= special_tokens:
            return InfillTokens(prefix, suffix, middle, tuple(files) if special_tokens.issuperset(files) else ())
    return None
