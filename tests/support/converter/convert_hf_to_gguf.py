"""A converter with the command line of llama.cpp's, for the tests' Llama alone: its own comes in no wheel."""

import argparse
import json
from pathlib import Path

import gguf
from safetensors.torch import load_file
from torch import Tensor


def paired(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows for rotary positions: llama.cpp rotates neighbouring rows, transformers the rows of two halves."""
    return weight.view(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def main() -> None:
    """Write the weights and what the architecture needs; no tokenizer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--outfile", type=Path, required=True)
    parser.add_argument("--outtype", choices=["f16"], required=True)
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    writer = gguf.GGUFWriter(args.outfile, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for name, weight in load_file(args.model / "model.safetensors").items():
        if ".q_proj" in name:
            weight = paired(weight, heads)
        elif ".k_proj" in name:
            weight = paired(weight, config["num_key_value_heads"])
        array = weight.numpy()
        writer.add_tensor(names.get_name(name, (".weight",)), array if weight.dim() > 1 else array.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
