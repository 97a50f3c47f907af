"""An answer does not depend on the other prompts of its batch, and generation leaves no trace in a model."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from blocklm.models.generation.decoding import Decoding, Output
from blocklm.models.generation.generate import generate, rehearse
from blocklm.models.loaded import LoadedModel
from tests.support.memory import memory_left

PROMPTS = ["def f(", "import os\n" * 12, "x = 1", "y = compute(x)\n" * 9]


def load(folder: Path) -> tuple[LoadedModel, list[list[int]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder)
    return LoadedModel(model, tokenizer, torch.float32), [tokenizer(text).input_ids for text in PROMPTS]


def by_hand(model: PreTrainedModel, tokens: list[int], count: int) -> list[int]:
    """Generate the likeliest tokens, each computed from all text before it, up to token 0."""
    ids = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == 0:
                break
    return ids[len(tokens) :]


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "starcoder2"])
def test_a_batch_gives_the_same_answers_as_single_prompts(tiny_models: dict[str, Path], family: str) -> None:
    """With checkpointing and dropout in training mode, transformers alone would write garbage."""
    loaded, prompts = load(tiny_models[family])
    model, tokenizer = loaded.model, loaded.tokenizer
    expected = []
    for tokens in prompts:
        written = by_hand(model.eval(), tokens, 12)
        expected.append(Output(tokenizer.decode(written).removesuffix(tokenizer.eos_token), written[-1] == 0))
    model.gradient_checkpointing_enable()
    model.train()
    model.config.use_cache = False
    model.generation_config.update(do_sample=True, temperature=0.5, repetition_penalty=1.5)
    assert generate(loaded, prompts, Decoding(12)) == expected
    assert model.training and not model.config.use_cache


@pytest.fixture
def says(tiny_models: dict[str, Path]) -> LoadedModel:
    """Make a model repeat `a`, newline, ` `, newline, `b`, newline, end, wherever it starts."""
    loaded, _ = load(tiny_models["gpt2"])
    model, tokenizer = loaded.model, loaded.tokenizer
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data.zero_()
    vocabulary = tokenizer.get_vocab()
    order = ["a", "Ċ", "Ġ", "Ċ", "b"]
    size = model.config.n_embd
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(model.config.vocab_size, size))
    model.transformer.ln_f.weight.data.fill_(1.0)
    follows = {"x": "a", "a": "Ċ", "Ċ": "Ġ", "Ġ": "b", "b": tokenizer.eos_token}
    assert set(order) <= set(follows)
    for at, (token, then) in enumerate(follows.items()):
        model.transformer.wte.weight.data[vocabulary[token], 2 * at] = 1.0
        model.lm_head.weight.data[vocabulary[then], 2 * at] = 1.0
    return loaded


def test_an_answer_is_cut_to_the_lines_of_the_truth(says: LoadedModel) -> None:
    """The model writes `a`, a newline, ` b` and EOS."""
    prompts = [says.tokenizer("x").input_ids] * 5
    found = generate(says, prompts, Decoding(9), [None, 1, 2, 3, None])
    assert found[0] == found[2] == found[3] == found[4] == Output("a\n b", True)
    assert found[1] == Output("a\n", False)
    cut = generate(says, prompts, Decoding(3))
    assert set(cut) == {Output("a\n ", False)}


def test_answers_are_drawn_by_the_seed(tiny_models: dict[str, Path]) -> None:
    loaded, prompts = load(tiny_models["llama"])

    def drawn(seed: int) -> list[Output]:
        return generate(loaded, prompts, Decoding(12, 1.0, seed))

    assert drawn(1) == drawn(1) != drawn(2)


def numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_inference_state_is_restored_even_after_an_error(tiny_models: dict[str, Path]) -> None:
    loaded = load(tiny_models["gpt2"])[0]
    model = loaded.model
    model.train()
    model.transformer.h[0].eval()
    model.config.use_cache = False
    modes = [module.training for module in model.modules()]
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = numbers()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    with pytest.raises(KeyError), loaded.evaluation_mode():
        assert not model.training
        model.config.use_cache = True
        numbers()
        raise KeyError
    assert numbers() == expected
    assert [module.training for module in model.modules()] == modes
    assert not model.config.use_cache


def test_the_head_is_held_in_the_dtype_of_the_products_with_the_same_answers(tiny_models: dict[str, Path]) -> None:
    fp32, prompts = load(tiny_models["gpt2"])
    loaded = replace(fp32, dtype=torch.bfloat16)
    head, embedding = loaded.model.get_output_embeddings(), loaded.model.get_input_embeddings().weight
    inputs = {"input_ids": torch.tensor([prompts[1]])}
    with torch.no_grad(), loaded.autocast():
        converted_each_time = loaded.model(**inputs).logits
        with pytest.raises(KeyError), loaded.converted_head():
            assert head.weight.dtype == torch.bfloat16
            assert torch.equal(loaded.model(**inputs).logits, converted_each_time)
            raise KeyError
    assert head.weight is embedding and embedding.dtype == torch.float32
    with fp32.converted_head():
        assert head.weight is embedding


class Widest(torch.nn.Module):
    """Records the largest cache of a model's calls."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    def __call__(self, module: torch.nn.Module, given: object, kwargs: dict[str, object], output: object) -> None:
        cache = output.past_key_values  # type: ignore[attr-defined]
        self.tokens = max(self.tokens, cache.get_seq_length() * output.logits.shape[0])  # type: ignore[attr-defined]


def test_a_rehearsal_uses_as_much_cache_as_the_answers(tiny_models: dict[str, Path]) -> None:
    loaded, prompts = load(tiny_models["llama"])
    widest = [Widest(), Widest()]
    for note in widest:
        hook = loaded.model.register_forward_hook(note, with_kwargs=True)
        if note is widest[0]:
            generate(loaded, prompts, Decoding(20))
        else:
            rehearse(loaded, prompts, Decoding(20))
        hook.remove()
    assert widest[0].tokens == widest[1].tokens > 100


def test_a_batch_that_does_not_fit_into_memory_is_halved(tiny_models: dict[str, Path]) -> None:
    """Each layer would take some 750 MiB for the four prompts together."""
    tokenizer = load(tiny_models["llama"])[0].tokenizer
    config = AutoConfig.for_model(
        "llama", hidden_size=64, intermediate_size=16384, num_hidden_layers=1, num_attention_heads=4, vocab_size=410,
        max_position_embeddings=1024, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    loaded = LoadedModel(AutoModelForCausalLM.from_config(config), tokenizer, torch.float32)
    prompts = [[number + 5] * 1000 for number in range(4)]
    expected = generate(loaded, prompts, Decoding(3))
    with memory_left(500 << 20):
        assert generate(loaded, prompts, Decoding(3)) == expected
    with memory_left(40 << 20), pytest.raises(RuntimeError):
        generate(loaded, prompts, Decoding(3))
