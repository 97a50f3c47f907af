"""A causal language model in memory, with its tokenizer and the dtype of its matrix products."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Self

import numpy as np
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

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Put the model into evaluation mode within this context, as answers in the middle of a training need it.

        Afterwards the mode of every module, `use_cache` and the states of all random generators are restored.

        In training mode with gradient checkpointing, `generate` writes garbage without an error (transformers 5.23).
        Random numbers drawn for answers would otherwise change the dropout of the training.
        """
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        gpu_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        modes = [(module, module.training) for module in self.model.modules()]
        use_cache = self.model.config.use_cache
        try:
            self.model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training
            self.model.config.use_cache = use_cache
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            if gpu_states:
                torch.cuda.set_rng_state_all(gpu_states)

    @contextmanager
    def converted_head(self) -> Iterator[None]:
        """Hold the head in `dtype` within this context, because autocast would convert it again for every token.

        The products are the same to the bit. A head that shares its weight with the embeddings has a copy meanwhile.
        """
        head = self.model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear) or head.weight.dtype != torch.float32 or self.dtype == torch.float32:
            yield
            return
        weight = head.weight
        head.weight = torch.nn.Parameter(weight.detach().to(self.dtype), requires_grad=False)
        try:
            yield
        finally:
            head.weight = weight

    def autocast(self) -> torch.autocast:
        """Compute matrix products in `dtype` within this context."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
