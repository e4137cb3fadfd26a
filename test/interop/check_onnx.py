"""Judges compressed ONNX files against their originals with onnx, onnx_ir and onnxruntime.

Usage: check_onnx.py CASES.json
CASES.json: [{"original": path, "artifact": path, "inputs": {name: shape}, "values": {name: number}}]. Inputs are seeded noise
of these shapes (integers: zeros), or the one number given in values. Prints a list of {"ir", "opsets", "domains", "cosine",
"finite", "inputs", "outputs"} in the same order; a file that a library refuses ends the script with its error.
"""

import json
import sys

import numpy as np
import onnx
import onnx_ir
import onnxruntime

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def feeds_for(session, case):
    rng = np.random.default_rng(5)
    feeds = {}
    for argument in session.get_inputs():
        shape = case["inputs"].get(argument.name, argument.shape)
        dtype = DTYPES[argument.type]
        if argument.name in case["values"]:
            feeds[argument.name] = np.full(shape, case["values"][argument.name], dtype)
        elif dtype == np.float32:
            feeds[argument.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            feeds[argument.name] = np.zeros(shape, dtype)
    return feeds


def run(path, case, feeds=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = feeds or feeds_for(session, case)
    names = [output.name for output in session.get_outputs()]
    return feeds, dict(zip(names, session.run(None, feeds))), [argument.name for argument in session.get_inputs()]


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else float(np.array_equal(a, b))


def check(case):
    model = onnx.load(case["artifact"])
    onnx.checker.check_model(case["artifact"])
    ir_model = onnx_ir.load(case["artifact"])
    feeds, before, _ = run(case["original"], case)
    _, after, inputs = run(case["artifact"], case, feeds)
    assert before.keys() == after.keys(), (before.keys(), after.keys())
    assert all(before[name].shape == after[name].shape for name in before)
    return {
        "ir": model.ir_version,
        "opsets": dict(ir_model.opset_imports),
        "domains": sorted({node.domain for node in model.graph.node}),
        "cosine": min(cosine(before[name], after[name]) for name in before),
        "finite": all(bool(np.isfinite(value).all()) for value in after.values()),
        "inputs": inputs,
        "outputs": list(after),
    }


with open(sys.argv[1], encoding="utf-8") as file:
    cases = json.load(file)
print(json.dumps([check(case) for case in cases]))
