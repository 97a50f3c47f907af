"""Whether documents that share a row can see each other: asked of the model itself, not of a list of architectures.

Under sdpa and eager attention transformers makes a block-diagonal mask from position ids that begin again, if there is no
attention mask and no cache; other attention, architectures without positions, or an 8-bit product whose outliers are looked
for in the whole row do not keep documents apart.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from blocklm.models.tokenization import IGNORED

DOCUMENT_TOKENS = 12
MIN_UTILISATION = 0.95  # below, rows of like lengths waste less than packed ones


@torch.no_grad()
def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Whether a document's logits stay the same, to the bit, when the one before it in its row is another.

    Args:
        model: the base model as it will be trained; its mode is left as it was.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    first, other, second = torch.randint(0, vocabulary, (3, DOCUMENT_TOKENS), generator=generator).to(device)
    positions = torch.arange(DOCUMENT_TOKENS, device=device).repeat(2, 2)

    def logits(before: torch.Tensor) -> torch.Tensor:
        rows = torch.stack([torch.cat([before, second]), torch.cat([second, before])])
        found: torch.Tensor = model(input_ids=rows, position_ids=positions, use_cache=False).logits
        return found[0, DOCUMENT_TOKENS:]

    apart = torch.equal(logits(first), logits(other))
    model.train(training)
    return apart


class RowsApart(DataCollatorForLanguageModeling):
    """Packed rows below each other, as sdpa and eager attention want them.

    TRL joins them into one, as FlashAttention wants them: elsewhere mask and attention grow with the square of that row.
    """

    def __init__(self, pad_token_id: int) -> None:
        super().__init__(pad_token_id, return_position_ids=True)

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch without an attention mask, which would hide from transformers where documents begin.

        Each pad is a document of its own: it sees nothing, and nothing sees it.
        """
        batch: dict[str, Any] = super().torch_call(examples)
        del batch["attention_mask"]
        batch["labels"][batch["position_ids"] == 0] = IGNORED  # nothing before it foretells a document's first token
        return batch


def padding_mask(position_ids: torch.Tensor) -> torch.Tensor:
    """Which places of packed rows are padding: a document has a second token."""
    begins = torch.nn.functional.pad(position_ids, (0, 1)) == 0
    return begins[..., :-1] & begins[..., 1:]
