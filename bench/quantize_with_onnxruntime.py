"""What onnxruntime's own Python quantizers need for the same file.

Usage: quantize_with_onnxruntime.py dynamic|nbits INPUT OUTPUT
dynamic: quantize_dynamic, int8 weights. nbits: MatMulNBitsQuantizer, 4 bits, block 32, symmetric, RTN (its default).
Prints {"seconds": ..., "versions": ...}: load, quantize and save, without the imports. The caller times the whole process.
"""

import json
import sys
import time

import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

method, source, target = sys.argv[1:4]
start = time.perf_counter()
if method == "dynamic":
    quantize_dynamic(source, target, weight_type=QuantType.QInt8)
else:
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(target, False)
seconds = time.perf_counter() - start
versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "python": sys.version.split()[0]}
print(json.dumps({"seconds": seconds, "versions": versions}))
