"""Give the same export the same bytes: what TensorFlow numbers by chance is numbered by its place."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FINGERPRINT_FILE = "fingerprint.pb"

_COUNTED = re.compile(r"_\d+(?=_|$)")
_GRADIENT, _USER_NAME = "_gradient_op_type", "_user_specified_name"
_CALLED_FROM_OUTSIDE = "__inference_"
_PATH_OF_TABLE = re.compile(rb"^(hash_table_).*/")


def content_digest(graph_def: Any, weights: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the SHA-256, in hexadecimal, of all that a graph computes with; functions may have any names.

    Args:
        graph_def: a `GraphDef`.
        weights: placeholder's name → value.
    """
    canonical = type(graph_def).FromString(graph_def.SerializeToString())
    _rename_in_graph(canonical, _names_by_place(canonical))
    sha = hashlib.sha256(canonical.SerializeToString(deterministic=True))
    for name, value in sorted(weights.items()):
        sha.update(f"{name} {value.dtype} {value.shape}".encode())
        # As bytes: bfloat16 is no format that a buffer knows.
        sha.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def make_reproducible(directory: Path) -> None:
    """Write the `saved_model.pb` in `directory` anew, equal for equal exports, and its fingerprint.

    Functions and what they capture carry numbers from a counter of the process, a table the path of the temporary file
    that filled it, and the fingerprint a random one. The fingerprint's hashes of signatures and objects leave the
    counters out, so that they stay true; those of the file and of the graph are taken again.
    """
    path = directory / SAVED_MODEL_FILE
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        _rename_in_meta_graph(meta_graph)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    _write_fingerprint(directory / FINGERPRINT_FILE, saved)


def _write_fingerprint(path: Path, saved: Any) -> None:
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.saved_model_checksum = _farmhash(saved)
    fingerprint.graph_def_program_hash = _farmhash(saved.meta_graphs[0].graph_def)
    # TensorFlow 2.18 has none.
    if "uuid" in fingerprint.DESCRIPTOR.fields_by_name:
        told = json.dumps([fingerprint.saved_model_checksum, fingerprint.checkpoint_hash])
        fingerprint.uuid = str(int.from_bytes(hashlib.sha256(told.encode()).digest()[:16], "big"))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _farmhash(message: Any) -> int:
    """Return the hash that TensorFlow takes of files and graphs."""
    told = message.SerializeToString(deterministic=True)
    return int.from_bytes(bytes(tf.fingerprint([told], method="farmhash64")[0].numpy()), "little")


def _rename_in_meta_graph(meta_graph: Any) -> None:
    objects = meta_graph.object_graph_def
    held = [name for node in objects.nodes for name in _functions_of(node)]
    names = _names_by_place(meta_graph.graph_def, held)
    _rename_in_graph(meta_graph.graph_def, names)
    concrete = {names.get(name, name): function for name, function in objects.concrete_functions.items()}
    copies = {name: type(function).FromString(function.SerializeToString()) for name, function in concrete.items()}
    objects.concrete_functions.clear()
    for name, function in copies.items():
        objects.concrete_functions[name].CopyFrom(function)
    for node in objects.nodes:
        held = [names.get(name, name) for name in _functions_of(node)]
        if node.HasField("function"):
            node.function.concrete_functions[:] = held
        elif node.HasField("bare_concrete_function"):
            (node.bare_concrete_function.concrete_function_name,) = held


def _functions_of(node: Any) -> list[str]:
    """Return the concrete functions that an object of the object graph holds."""
    if node.HasField("function"):
        return list(node.function.concrete_functions)
    if node.HasField("bare_concrete_function"):
        return [node.bare_concrete_function.concrete_function_name]
    return []


def _names_by_place(graph_def: Any, held: Iterable[str] = ()) -> dict[str, str]:
    """Return each function's name, and the same name with its place in the order of calls for a number.

    Args:
        graph_def: the graph and its library.
        held: functions that something beside the graph holds.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    order: dict[str, None] = {}
    waiting = [*reversed([*_called(graph_def.node), *held, *sorted(library, key=_stem_and_numbers)])]
    while waiting:
        name = waiting.pop()
        if name in library and name not in order:
            order[name] = None
            waiting.extend(reversed([*_called(library[name].node_def)]))
    return {name: f"{_COUNTED.sub('', name)}_{place}" for place, name in enumerate(order)}


def _stem_and_numbers(name: str) -> tuple[str, list[int]]:
    return _COUNTED.sub("", name), [int(number[1:]) for number in _COUNTED.findall(name)]


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op
        for key in sorted(node.attr):
            yield from (function.name for function in _functions_in(node.attr[key]))


def _functions_in(value: Any) -> list[Any]:
    kind = value.WhichOneof("value")
    return [value.func] if kind == "func" else list(value.list.func) if kind == "list" else []


def _rename_in_graph(graph_def: Any, names: Mapping[str, str]) -> None:
    _rename_in_nodes(graph_def.node, names)
    for function in graph_def.library.function:
        _name_arguments_by_place(function)
        function.signature.name = names[function.signature.name]
        _rename_in_nodes(function.node_def, names)
        for value in function.attr.values():
            _rename_in_text(value, names)
    graph_def.library.function.sort(key=lambda function: function.signature.name)


def _name_arguments_by_place(function: Any) -> None:
    """Name the arguments and results of loops and branches by their place, and what a function captures likewise.

    TensorFlow puts the numbers of tensors and of enclosing functions into these names. Nothing calls by them.
    """
    inner = not function.signature.name.startswith(_CALLED_FROM_OUTSIDE)
    arguments = {}
    for place, argument in enumerate(function.signature.input_arg):
        told = function.arg_attr[place].attr if place in function.arg_attr else {}
        captured = _USER_NAME in told and told[_USER_NAME].s.isdigit()
        if inner or captured:
            arguments[argument.name] = argument.name = f"argument_{place}"
        if captured:
            told[_USER_NAME].s = f"argument_{place}".encode()
    results = {}
    for place, result in enumerate(function.signature.output_arg if inner else ()):
        results[result.name] = result.name = f"result_{place}"
    for node in function.node_def:
        node.input[:] = [arguments.get(name, name) for name in node.input]
    returned = {results.get(name, name): arguments.get(value, value) for name, value in function.ret.items()}
    function.ret.clear()
    function.ret.update(returned)


def _rename_in_nodes(nodes: Iterable[Any], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.op = names.get(node.op, node.op)
        if node.op == "HashTableV2":
            # Its name has the temporary folder in it where the file lay that fills it.
            node.attr["shared_name"].s = _PATH_OF_TABLE.sub(rb"\1", node.attr["shared_name"].s)
        for value in node.attr.values():
            for function in _functions_in(value):
                function.name = names.get(function.name, function.name)
            _rename_in_text(value, names)
        if _GRADIENT in node.attr:
            # Whoever loads the graph to train it gives it a name of his own.
            node.attr[_GRADIENT].s = f"{node.op}-{node.attr['f'].func.name}".encode()


def _rename_in_text(value: Any, names: Mapping[str, str]) -> None:
    """Rename where a function is named in plain text, as the gradients of a function are."""
    if value.WhichOneof("value") == "s":
        text = value.s.decode("latin-1")
        if text in names:
            value.s = names[text].encode()
