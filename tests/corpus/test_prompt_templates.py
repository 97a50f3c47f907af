"""A family of templates is chosen by the vocabulary, and plain text works with every model."""

import pytest

from blocklm.corpus.prompt_templates import FAMILY, prompts_for, readable
from blocklm.errors import UserError
from tests.conftest import STARCODER2_TOKENS


@pytest.mark.parametrize(
    ("tokens", "family"),
    [
        (STARCODER2_TOKENS, "starcoder2"),
        (FAMILY["starcoder"].markers, "starcoder"),
        (FAMILY["qwen-coder"].markers | {"<|im_end|>"}, "qwen-coder"),
        (["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"], "granite"),
        (FAMILY["deepseek-coder"].markers, "deepseek-coder"),
        (FAMILY["code-llama"].markers, "code-llama"),
        (["<repo_name>", "<file_sep>", "<|im_end|>"], "plain"),  # SmolLM2: the tokens without the training
        ([], "plain"),
    ],
)
def test_the_family_is_chosen_by_vocabulary(tokens: list[str], family: str) -> None:
    assert readable(frozenset(tokens))[0].name == family
    assert {prompts.name for prompts in prompts_for(frozenset(tokens), "auto").values()} == {family}


def test_starcoder2_is_distinguished_from_families_with_some_of_its_tokens() -> None:
    assert FAMILY["starcoder2"].markers == set(STARCODER2_TOKENS)
    assert FAMILY["files"].markers == {"<repo_name>", "<file_sep>"}
    assert not FAMILY["plain"].markers | FAMILY["bare"].markers


def test_a_family_can_be_named_if_the_vocabulary_has_it() -> None:
    assert prompts_for(frozenset(STARCODER2_TOKENS), "plain")["completion"].name == "plain"
    with pytest.raises(UserError, match="`template` cannot be 'starcoder2' for this model"):
        prompts_for(frozenset(), "starcoder2")
