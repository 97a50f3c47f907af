"""The fused head leaves out the positions without a label, and computes the same loss and gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from blocklm.models.tokenization.encode import IGNORED
from blocklm.training.fused_head import labelled_positions_only


def loss_of(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 45).reshape(2, 20)
    labels = ids.clone()
    labels[:, :15] = IGNORED
    loss: torch.Tensor = model(input_ids=ids, labels=labels, fused_lm_head=True).loss
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def test_the_loss_is_that_of_all_positions_from_a_quarter_of_the_logits(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    forward_tile = chunked_logprob._forward_tile

    def count_rows(logits: torch.Tensor, *rest: Any, **keys: Any) -> Any:
        computed.append(len(logits))
        return forward_tile(logits, *rest, **keys)

    monkeypatch.setattr(chunked_logprob, "_forward_tile", count_rows)
    plain, compact = (AutoModelForCausalLM.from_pretrained(tiny_models["llama"]) for _ in range(2))
    for model in (plain, compact):
        add_fused_lm_head(model)
    expected = loss_of(plain)
    with labelled_positions_only():
        found = loss_of(compact)
    assert {*computed} == {2 * 19, 2 * 5}
    assert torch.allclose(expected, found)
    for one, other in zip(plain.parameters(), compact.parameters(), strict=True):
        assert one.grad is not None and torch.allclose(one.grad, other.grad, atol=1e-6)
