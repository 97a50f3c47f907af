"""Whether documents that share a row can see each other: asked of the model itself, not of a list of architectures.

Under sdpa and eager attention transformers makes a block-diagonal mask from position ids that begin again, if there is no
attention mask and no cache; other attention, architectures without positions, or an 8-bit product whose outliers are looked
for in the whole row do not keep documents apart.
"""

import torch
from transformers import PreTrainedModel

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
    positions = torch.arange(DOCUMENT_TOKENS, device=device).repeat(2)[None]

    def logits(before: torch.Tensor) -> torch.Tensor:
        row = torch.cat([before, second])[None]
        found: torch.Tensor = model(input_ids=row, position_ids=positions, use_cache=False).logits
        return found[0, DOCUMENT_TOKENS:]

    apart = torch.equal(logits(first), logits(other))
    model.train(training)
    return apart
