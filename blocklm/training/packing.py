"""Packs several documents into a row, and tests on the model itself whether they stay apart.

With sdpa and eager attention, transformers makes a block-diagonal mask from position ids that start again at 0, if
there is no attention mask and no cache. Documents do not stay apart with other attention, without position ids, or in
8-bit products, which look for outliers in the entire row.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from blocklm.models.tokenization.encode import IGNORED

DOCUMENT_TOKENS = 12
MIN_UTILISATION = 0.95  # below this, batches of similar lengths waste less than packed rows


@torch.no_grad()
def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Test whether a document's logits stay the same, to the bit, when another document precedes it in its row.

    Args:
        model: the base model as it will be trained; its train or eval mode is restored.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    first, other, second = torch.randint(0, vocabulary, (3, DOCUMENT_TOKENS), generator=generator).to(device)
    positions = torch.arange(DOCUMENT_TOKENS, device=device).repeat(2, 2)

    def logits(before: torch.Tensor) -> torch.Tensor:
        rows = torch.stack([torch.cat([before, second]), torch.cat([second, before])])
        result: torch.Tensor = model(input_ids=rows, position_ids=positions, use_cache=False).logits
        return result[0, DOCUMENT_TOKENS:]

    apart = torch.equal(logits(first), logits(other))
    model.train(training)
    return apart


class RowsApart(DataCollatorForLanguageModeling):
    """Stacks packed rows into a batch for sdpa and eager attention.

    TRL joins them into one long row for FlashAttention; other attention needs memory with the square of its length.
    """

    def __init__(self, pad_token_id: int) -> None:
        super().__init__(pad_token_id, return_position_ids=True)

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch without an attention mask, with which transformers would not see where documents begin.

        Each pad token is a document of its own: it attends to no other token, and none to it.
        """
        batch: dict[str, Any] = super().torch_call(examples)
        del batch["attention_mask"]
        batch["labels"][batch["position_ids"] == 0] = IGNORED  # no context predicts a document's first token
        return batch


def padding_mask(position_ids: torch.Tensor) -> torch.Tensor:
    """Mark the padding of packed rows: each position 0 without a 1 after it, as documents have two tokens or more."""
    begins = torch.nn.functional.pad(position_ids, (0, 1)) == 0
    return begins[..., :-1] & begins[..., 1:]
