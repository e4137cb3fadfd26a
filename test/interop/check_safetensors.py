"""Judges a compressed safetensors file against its original, with the library's own reader and an independent dequantizer.

Usage: check_safetensors.py [--library] ORIGINAL ARTIFACT [ARTIFACT ...]
Prints one JSON object an artifact: for every tensor of the original how it is stored, whether its bytes are equal, the largest error in
units of its scale, and the fraction of zeros; the parsed quantization_config; and with --library what compressed-tensors makes of
the packed weights.
"""

import json
import sys

import numpy as np
from safetensors import safe_open


def read(path):
    """All tensors; bfloat16, which NumPy lacks, as the float32 of the same value."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    with safe_open(path, "np") as opened:
        metadata = opened.metadata() or {}
        for name in opened.keys():
            if header[name]["dtype"] == "BF16":
                begin, end = header[name]["data_offsets"]
                words = np.frombuffer(data[begin:end], "<u2").astype("<u4") << 16
                tensors[name] = words.view("<f4").reshape(header[name]["shape"])
            else:
                tensors[name] = opened.get_tensor(name)
    return tensors, metadata, header


def unpack_words(words, bits, count):
    """[rows, words] int32 -> [rows, count] codes, low bits first."""
    per_word = 32 // bits
    shifts = np.arange(per_word, dtype=np.uint32) * bits
    codes = (words.view(np.uint32)[:, :, None] >> shifts) & ((1 << bits) - 1)
    return codes.reshape(words.shape[0], -1)[:, :count].astype(np.int32)


def dequantize_packed(tensors, name, bits, group):
    rows, columns = (int(value) for value in tensors[name + "_shape"])
    codes = unpack_words(tensors[name + "_packed"], bits, columns)
    scale = np.repeat(tensors[name + "_scale"], group, axis=1)
    if name + "_zero_point" in tensors:
        zero = unpack_words(np.ascontiguousarray(tensors[name + "_zero_point"].T), bits, rows).T
        zero = np.repeat(zero, group, axis=1)
    else:
        zero = 1 << (bits - 1)
    return (codes - zero).astype(np.float32) * scale, np.abs(scale)


def dequantize_scaled(tensors, name):
    scale = tensors[name + ".scale"]
    shape = (-1,) + (1,) * (tensors[name].ndim - 1) if scale.shape != (1,) else (1,)
    zero = tensors.get(name + ".zero_point", np.zeros(1, np.uint8)).astype(np.int32).reshape(shape)
    values = (tensors[name].astype(np.int32) - zero).astype(np.float32) * scale.reshape(shape)
    return values, np.broadcast_to(scale.reshape(shape), values.shape)


def with_library(tensors, config, original):
    """The same weights through compressed-tensors: the largest difference from our own dequantizer's result."""
    import torch
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig

    parsed = QuantizationConfig.model_validate(config)
    found = {}
    for scheme in parsed.config_groups.values():
        for target in scheme.targets:
            base = target + ".weight" if target + ".weight" in original else target
            state = {
                "weight" + suffix: torch.from_numpy(tensors[base + suffix].copy())
                for suffix in ("_packed", "_scale", "_shape", "_zero_point")
                if base + suffix in tensors
            }
            weight = PackedQuantizationCompressor.decompress(state, scheme)["weight"].numpy()
            ours, _ = dequantize_packed(tensors, base, scheme.weights.num_bits, scheme.weights.group_size)
            found[base] = {"shape": list(weight.shape), "difference": float(np.abs(weight - ours).max())}
    return found


def judge(original, original_header, path, ask_library):
    tensors, metadata, header = read(path)
    config = json.loads(metadata.get("quantization_config", "null"))
    groups = {}
    if config and config["quant_method"] == "compressed-tensors":
        for group in config["config_groups"].values():
            for target in group["targets"]:
                groups[target] = group["weights"]
    report = {}
    for name, weight in original.items():
        target = name[: -len(".weight")] if name.endswith(".weight") else name
        row = {"stored": header.get(name, {}).get("dtype")}
        if name + "_packed" in tensors:
            args = groups[target]
            values, scale = dequantize_packed(tensors, name, args["num_bits"], args["group_size"])
            row["stored"] = f"packed {args['num_bits']}"
        elif name + ".scale" in tensors:
            values, scale = dequantize_scaled(tensors, name)
        else:
            values, scale = tensors[name], None
            row["identical"] = header[name]["dtype"] == original_header[name]["dtype"] and bool(
                values.tobytes() == weight.tobytes()
            )
        if weight.dtype == np.float32 and weight.size:
            error = np.abs(values.astype(np.float32) - weight)
            row["max_error_in_scales"] = float((error / scale).max()) if scale is not None else None
            row["max_relative_error"] = float((error / np.maximum(np.abs(weight), 1e-30)).max())
            row["zeros"] = float(np.mean(values == 0))
        report[name] = row
    library = with_library(tensors, config, original) if groups and ask_library else None
    return {"tensors": report, "config": config, "compressed_tensors": library}


def main():
    paths = [argument for argument in sys.argv[1:] if argument != "--library"]
    original, _, original_header = read(paths[0])
    print(json.dumps([judge(original, original_header, path, "--library" in sys.argv) for path in paths[1:]]))


main()
