"""Reads how the tokens of an answer are chosen; without `temperature`, the likeliest are taken."""

import random

from blocklm.models.generation.decoding import Decoding
from blocklm.serving.protocols.fields import Fields
from blocklm.serving.refused import Refused

DEFAULT_TOKENS = 128
MAX_TOKENS = 1024


def decoding_of(fields: Fields, count: str) -> Decoding:
    """Read the choice of tokens of a request.

    Args:
        fields: its fields.
        count: name of the field with the most tokens; a negative number stands for the most that the server gives.

    Raises:
        Refused: a field has the wrong type or is out of range.
    """
    tokens, top_p = fields.whole(count, DEFAULT_TOKENS), fields.number("top_p", 1.0)
    if top_p > 1:
        raise Refused(400, "`top_p` must be at most 1")
    seed = fields.whole("seed", -1)
    return Decoding(
        max_new_tokens=MAX_TOKENS if tokens < 0 else min(tokens, MAX_TOKENS),
        temperature=fields.number("temperature", 0.0),
        seed=seed % (1 << 63) if seed >= 0 else random.getrandbits(63),
        stops=fields.stops(),
        top_k=max(0, fields.whole("top_k", 0)),
        top_p=top_p or 1.0,
    )
