"""A causal language model in memory, with what every question to it needs: its tokenizer and its compute dtype."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, ready to score and to generate.

    Attributes:
        model: any causal language model.
        tokenizer: the model's tokenizer, with EOS and pad token.
        dtype: dtype of the matrix products.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def pad_token_id(self) -> int:
        """Id of the pad token."""
        token_id: int | None = self.tokenizer.pad_token_id
        assert token_id is not None, "`load_tokenizer` sets it"
        return token_id

    def opened(self) -> AbstractContextManager[Self]:
        """Return a context manager that yields this model, for code that opens and closes the models it compares."""
        return nullcontext(self)

    def autocast(self) -> torch.autocast:
        """Compute matrix products in `dtype` within this context."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
