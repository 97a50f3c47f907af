"""Holds answers that begin within a token to the text with which they begin."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from blocklm.models.tokenization.token_healing import TokenHealing


class HealedBeginnings(LogitsProcessor):
    """Holds the answers of a batch to begin with the ends of their prompts.

    Args:
        healing: heals prompts of the model's tokenizer.
        raws: the end of each prompt, as the vocabulary spells it.
        start: number of tokens of the padded prompts.
    """

    def __init__(self, healing: TokenHealing, raws: Sequence[str], start: int) -> None:
        self._healing, self._raws, self._start = healing, raws, start

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Rule out the tokens with which an answer would begin otherwise; `scores` has shape (prompts, vocabulary)."""
        for row, raw in enumerate(self._raws):
            allowed = self._healing.allowed(raw, input_ids[row, self._start :].tolist()) if raw else None
            if allowed is not None:
                kept = scores[row, allowed]
                scores[row] = -torch.inf
                scores[row, allowed] = kept
        return scores
