"""An answer may begin within a token: the end of a prompt is given back, and the answer begins with its text."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from blocklm.models.generation.healed_beginnings import HealedBeginnings
from blocklm.models.tokenization.token_healing import MOST_TOKENS, TokenHealing, healing_of

TEXTS = ["def area(width, height):\n    ret", "x = compute(va", "import o", "class Lamp:\n    def __in", "y = 1\n    "]


@pytest.fixture(params=["llama", "gpt2", "starcoder2"])
def healing(tiny_models: dict[str, Path], request: pytest.FixtureRequest) -> TokenHealing:
    return healing_of(AutoTokenizer.from_pretrained(tiny_models[request.param]))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_a_prompt_and_its_end_are_the_whole_text(healing: TokenHealing) -> None:
    healed = [healing.heal(ids_of(healing.tokenizer, text)) for text in TEXTS]
    for text, prompt in zip(TEXTS, healed, strict=True):
        assert healing.tokenizer.decode(prompt.ids) + prompt.text == text
        assert len(prompt.ids) >= 1 and len(ids_of(healing.tokenizer, text)) - len(prompt.ids) <= MOST_TOKENS
    assert any(prompt.text for prompt in healed)


def test_what_no_longer_token_begins_with_stays(healing: TokenHealing) -> None:
    vocabulary = healing.tokenizer.get_vocab()
    longest = max((name for name in vocabulary if name.isascii() and name.isalpha()), key=len)
    ids = [*ids_of(healing.tokenizer, "x = "), vocabulary[longest]]
    assert healing.heal(ids).ids == ids
    ended = [*ids_of(healing.tokenizer, "x = "), min(healing.tokenizer.get_added_tokens_decoder())]
    assert healing.heal(ended).ids == ended, "the marks of a template are special tokens"


def test_an_answer_is_held_to_its_beginning_and_free_behind_it(healing: TokenHealing) -> None:
    """Of all tokens the likeliest that fit are taken: a longer one than the prompt had, or several short ones."""
    tokenizer, chance = healing.tokenizer, torch.Generator().manual_seed(0)
    for text in TEXTS:
        prompt = healing.heal(ids_of(tokenizer, text))
        rows = torch.tensor([prompt.ids, prompt.ids])
        held = HealedBeginnings(healing, [prompt.raw, ""], len(prompt.ids))
        for _ in range(len(prompt.raw) + 2):
            scores = torch.rand(2, tokenizer.get_vocab_size(), generator=chance)
            found = held(rows, scores.clone())  # type: ignore[arg-type]
            assert torch.equal(found[1], scores[1]), "this row has nothing to begin with"
            rows = torch.cat([rows, found.argmax(-1, keepdim=True)], dim=1)
        written = tokenizer.decode(rows[0, len(prompt.ids) :].tolist())
        assert written.startswith(prompt.text)
        assert torch.equal(held(rows, scores.clone()), scores)  # type: ignore[arg-type]


def test_a_longer_token_takes_the_place_of_the_end(healing: TokenHealing) -> None:
    vocabulary = healing.tokenizer.get_vocab()
    name = max((name for name in vocabulary if name.isascii() and name.isalpha()), key=len)
    prompt = healing.heal(ids_of(healing.tokenizer, f"({name[:-1]}"))
    allowed = healing.allowed(prompt.raw, [])
    assert prompt.text and allowed is not None
    assert vocabulary[name] in allowed
    assert healing.allowed(prompt.raw, [vocabulary[name]]) is None
    assert healing.allowed(prompt.raw, [vocabulary[name], healing.tokenizer.get_vocab_size()]) is None, (
        "a row without a token"
    )
