"""A converter of adapters with the command line of llama.cpp's, for the tests' Llama alone."""

import argparse
import json
from pathlib import Path

import gguf
from safetensors.torch import load_file


def main() -> None:
    """Write each pair of matrices under llama.cpp's name, without reordering rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--outtype", choices=["f32"], required=True)
    parser.add_argument("--outfile", type=Path, required=True)
    args = parser.parse_args()
    layers = json.loads((args.base / "config.json").read_text())["num_hidden_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    writer = gguf.GGUFWriter(args.outfile, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(
        gguf.Keys.Adapter.LORA_ALPHA, json.loads((args.adapter / "adapter_config.json").read_text())["lora_alpha"]
    )
    for name, weight in load_file(args.adapter / "adapter_model.safetensors").items():
        module, half = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(module)}.weight.{half.lower()}", weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
