"""The published sizes of well-known models, so that a run can be planned and measured without any file of the model."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from blocklm.errors import UserError

# The sizes in each model's `config.json`, by the name of its architecture in transformers.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "starcoder2-3b": ("starcoder2", {"hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 2, "max_position_embeddings": 16384, "vocab_size": 49152,
        "sliding_window": 4096, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0}),
    "phi-2": ("phi", {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "vocab_size": 51200}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_positions": 1024, "vocab_size": 50257}),
    "qwen2.5-coder-1.5b": ("qwen2", {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936,
        "tie_word_embeddings": True}),
    "qwen2.5-coder-3b": ("qwen2", {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936,
        "tie_word_embeddings": True}),
    "qwen2.5-coder-7b": ("qwen2", {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768, "vocab_size": 152064}),
    # From IBM's article "Granite 4.1 LLMs: How They're Built"; positions and vocabulary from Granite 4.0 Micro. That is
    # 3.40 billion weights, the 6.81 GB of its published 16-bit files. Its own `config.json` could not be looked up.
    "granite-4.1-3b": ("granite", {"hidden_size": 2560, "intermediate_size": 8192, "num_hidden_layers": 40,
        "num_attention_heads": 40, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size": 100352,
        "tie_word_embeddings": True}),
    "llama-3.2-3b": ("llama", {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "vocab_size": 128256, "tie_word_embeddings": True}),
    "llama-3.1-8b": ("llama", {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "vocab_size": 128256}),
    "stablelm-base-alpha-3b": ("gpt_neox", {"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 16,
        "num_attention_heads": 32, "max_position_embeddings": 4096, "vocab_size": 50688}),
    "tiny-llama": ("llama", {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048, "vocab_size": 32000}),
}  # fmt: skip


def known_config(name: str) -> PretrainedConfig:
    """Make the configuration of one of these models.

    Args:
        name: name of the model in `SIZES`, in lower case and without its publisher.

    Raises:
        UserError: no model of this name is known.
    """
    if name not in SIZES:
        raise UserError(f"`--size` knows no `{name}`", f"it is one of {', '.join(SIZES)}")
    architecture, sizes = SIZES[name]
    config: PretrainedConfig = AutoConfig.for_model(architecture, **sizes)
    return config
