"""Write down what a stock TensorFlow Serving can run: python tests/make_stock_ops.py

The model server links TensorFlow's C++ library, TensorFlow Text and the inference of Decision Forests, and no Python.
So the operations and kernels are read through the C API, in a process that never imports TensorFlow.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import gradcam_export
import tensorflow as tf
from tensorflow.core.framework import kernel_def_pb2, op_def_pb2, types_pb2

STOCK_OPS = Path(gradcam_export.__file__).with_name("stock_ops.json")

READ = """
import ctypes, sys
from pathlib import Path

class Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]

operations, kernels, tensorflow, *libraries = sys.argv[1:]
ctypes.CDLL(f"{tensorflow}/libtensorflow_framework.so.2", ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(f"{tensorflow}/libtensorflow_cc.so.2", ctypes.RTLD_GLOBAL)
library.TF_NewStatus.restype = ctypes.c_void_p
library.TF_LoadLibrary.argtypes = ctypes.c_char_p, ctypes.c_void_p
library.TF_GetCode.argtypes = (ctypes.c_void_p,)
library.TF_GetAllOpList.restype = library.TF_GetAllRegisteredKernels.restype = ctypes.POINTER(Buffer)
library.TF_GetAllRegisteredKernels.argtypes = (ctypes.c_void_p,)
status = library.TF_NewStatus()
for path in libraries:
    library.TF_LoadLibrary(path.encode(), status)
    assert library.TF_GetCode(status) == 0, path
for path, buffer in (
    (operations, library.TF_GetAllOpList()), (kernels, library.TF_GetAllRegisteredKernels(status))
):
    Path(path).write_bytes(ctypes.string_at(buffer.contents.data, buffer.contents.length))
assert "tensorflow" not in sys.modules
"""

PROCESSORS = {"CPU", "DEFAULT"}
NOT_STOCK = ("Rpc", "Xla", "_Xla")
"""Prefixes of what the wheel's C++ library can run and a stock server cannot.

Calls between training processes are not linked, and compilation by XLA is switched off.
"""

# tensorflow_decision_forests/tensorflow/ops/inference/op.cc; its wheel follows TensorFlow's releases late, or never.
DECISION_FORESTS = {
    "SimpleMLCreateModelResource": ("container", "shared_name"),
    "SimpleMLInferenceLeafIndexOpWithHandle": (),
    "SimpleMLInferenceOp": ("dense_output_dim", "model_identifier"),
    "SimpleMLInferenceOpWithHandle": ("dense_output_dim",),
    "SimpleMLLoadModelFromPath": ("model_identifier",),
    "SimpleMLLoadModelFromPathWithHandle": ("file_prefix", "output_types"),
}


def stock_ops() -> dict:
    """Return what the installed TensorFlow's C++ library registers, as `gradcam_export.stock_ops` reads it."""
    definitions, kernels = _registered()
    operations, on_gpu = {}, []
    for definition in definitions:
        name, found = definition.name, kernels[definition.name]
        devices = {kernel.device_type for kernel in found}
        removed = 0 < definition.deprecation.version <= tf.version.GRAPH_DEF_VERSION
        if removed or name.startswith(NOT_STOCK):
            continue
        if devices & PROCESSORS:
            operations[name] = _attributes(definition, [one for one in found if one.device_type in PROCESSORS])
        elif "GPU" in devices:
            on_gpu.append(name)
    forests = {name: dict.fromkeys(attributes) for name, attributes in DECISION_FORESTS.items()}
    return {
        "server": ".".join(tf.__version__.split(".")[:2]),
        "graph_def_version": tf.version.GRAPH_DEF_VERSION,
        "operations": dict(sorted((operations | forests).items())),
        "gpu": sorted(on_gpu),
    }


def _registered() -> tuple:
    text = Path(find_spec("tensorflow_text").origin).parent
    libraries = sorted((text / "python").rglob("_*.so"))
    with tempfile.TemporaryDirectory() as directory:
        files = Path(directory, "operations"), Path(directory, "kernels")
        command = [sys.executable, "-c", READ, *files, Path(tf.__file__).parent, *libraries]
        subprocess.run(command, check=True, capture_output=True)
        definitions = op_def_pb2.OpList.FromString(files[0].read_bytes()).op
        kernels = defaultdict(list)
        for kernel in kernel_def_pb2.KernelList.FromString(files[1].read_bytes()).kernel:
            # A labelled kernel runs only where a node asks for it.
            if not kernel.label:
                kernels[kernel.op].append(kernel)
    return definitions, kernels


def _attributes(definition, kernels: list) -> dict:
    """Return the values that each attribute may have, or `None` for any."""
    return {one.name: _values(one, kernels) for one in sorted(definition.attr, key=lambda one: one.name)}


def _values(attribute, kernels: list) -> list | None:
    if attribute.type == "string":
        return sorted(value.decode() for value in attribute.allowed_values.list.s) or None
    if attribute.type not in ("type", "list(type)"):
        return None
    allowed = set(attribute.allowed_values.list.type) or None
    constraints = [
        {kind for one in kernel.constraint if one.name == attribute.name for kind in one.allowed_values.list.type}
        for kernel in kernels
    ]
    if all(constraints):
        able = set().union(*constraints)
        allowed = able if allowed is None else able & allowed
    return allowed and sorted(types_pb2.DataType.Name(kind).removeprefix("DT_").lower() for kind in allowed)


def write(path: Path) -> None:
    """Write one operation a line: what a release changes shows as lines that changed."""
    facts = stock_ops()
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(facts['operations'][name], separators=(',', ':'))}"
        for name in facts["operations"]
    )
    others = "".join(f'"{name}": {json.dumps(value)},\n' for name, value in facts.items() if name != "operations")
    path.write_text(f'{{\n{others}"operations": {{\n{rows}\n}}\n}}\n', "ascii")


if __name__ == "__main__":
    write(STOCK_OPS)
