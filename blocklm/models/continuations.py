"""What each of several continuations of one prompt costs a model: the prompt is read once for many of them."""

from collections.abc import Sequence

import torch
from accelerate.utils import find_executable_batch_size
from transformers import PreTrainedModel

BATCH = 32


@torch.no_grad()
def costs(model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    """The nats that a model in evaluation mode needs for each ending, each of at least one token, after the prompt.

    Each ending has the prompt's cache to itself; where memory does not hold that of a batch, it becomes smaller.
    """
    found: list[float] = find_executable_batch_size(_in_batches, starting_batch_size=BATCH)(model, prompt, endings)
    return found


def _in_batches(
    batch: int, model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]
) -> list[float]:
    return [cost for at in range(0, len(endings), batch) for cost in _batch(model, prompt, endings[at : at + batch])]


def _batch(model: PreTrainedModel, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
    device = next(model.parameters()).device
    width = max(map(len, endings))
    ids = torch.tensor([[*end, *[0] * (width - len(end))] for end in endings], device=device)
    target = torch.tensor([[*end, *[-100] * (width - len(end))] for end in endings], device=device)
    before = model(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True)
    before.past_key_values.batch_repeat_interleave(len(endings))
    after = model(input_ids=ids, past_key_values=before.past_key_values, use_cache=True)
    first = before.logits[:, -1:].expand(len(endings), -1, -1)
    logits = torch.cat([first, after.logits[:, :-1]], dim=1).float()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none", ignore_index=-100)
    return [float(cost) for cost in nats.sum(dim=1)]
