"""Cards before Ampere get a key and a value for each head, which their one efficient attention kernel needs."""

from unittest.mock import patch

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import sdpa_attention

from blocklm.models.attention import repeat_grouped_heads


@pytest.mark.parametrize(("capability", "repeated"), [((7, 5), True), ((8, 6), False)])
def test_grouped_heads_are_repeated_before_ampere(capability: tuple[int, int], repeated: bool) -> None:
    asked = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*given: torch.Tensor, **keys: object) -> torch.Tensor:
        asked.append(bool(keys.get("enable_gqa")))
        return attend(*given, **keys)  # type: ignore[arg-type]

    config = AutoConfig.for_model(
        "llama", hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64,
    )  # fmt: skip
    model, ids = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval(), torch.arange(8)[None]
    before = model(input_ids=ids).logits
    with (
        patch.object(sdpa_attention, "use_gqa_in_sdpa", sdpa_attention.use_gqa_in_sdpa),
        patch.object(torch.nn.functional, "scaled_dot_product_attention", spy),
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "get_device_capability", lambda: capability),
    ):
        repeat_grouped_heads()
        after = model(input_ids=ids).logits
    assert asked == [not repeated]
    assert torch.allclose(before, after, atol=1e-6)
