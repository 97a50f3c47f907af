"""A model that is asked something on the way is as it was afterwards, and so is everything that is drawn."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel


@contextmanager
def at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode; mode of every module, cache switch and all random numbers are as they were afterwards.

    In training mode with gradient checkpointing `generate` writes garbage in silence (transformers 5.23), and random
    numbers that are drawn would be missing from the training's dropout.
    """
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    modes = [(module, module.training) for module in model.modules()]
    use_cache = model.config.use_cache
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        model.config.use_cache = use_cache
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
