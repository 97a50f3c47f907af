"""A quantiser with the command line of llama.cpp's, for the types that the package `gguf` can write."""

import sys

import gguf
import numpy as np

TYPES = {"Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_K_M": gguf.GGMLQuantizationType.Q4_0}


def main() -> None:
    """Write the second file with the matrices of the first one quantised."""
    model, out, kind = sys.argv[1], sys.argv[2], TYPES[sys.argv[3]]
    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, str(reader.fields[gguf.Keys.General.ARCHITECTURE].contents()))
    for name, field in reader.fields.items():
        if name != gguf.Keys.General.ARCHITECTURE and not name.startswith("GGUF."):
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        if tensor.data.ndim == 2 and tensor.data.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.data.astype(np.float32), kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
