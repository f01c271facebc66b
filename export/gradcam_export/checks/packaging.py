"""Read a version's files and hold its graph against its manifest, without running any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from gradcam_export.checks.comparison import Check, failed, holds
from gradcam_export.checks.queues import check_queues
from gradcam_export.checks.signatures import check_signatures, width_of_predictions
from gradcam_export.checks.stock_server import check_stock_server
from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE
from gradcam_export.savedmodel.session import SERVE_TAG
from gradcam_export.savedmodel.warmup import WARMUP_FILE
from gradcam_export.savedmodel.write import BATCHING_FILE, DESCRIPTION_FILE, EXTRA_ASSETS, LABELS_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES, MANIFEST, LABELS = "files", "manifest", "labels"

_VARIABLES = "variables/variables"


def check_packaging(version: Path, manifest: Mapping[str, Any]) -> tuple[Check, ...]:
    """Check what can be read in the directory `version`; where a check fails, running the version would say less.

    Args:
        version: directory of a SavedModel.
        manifest: what it says of itself.
    """
    try:
        saved_model = saved_model_pb2.SavedModel.FromString((version / SAVED_MODEL_FILE).read_bytes())
    except DecodeError as error:
        return (failed(FILES, f"{SAVED_MODEL_FILE} is cut off or damaged: {error}"),)
    stock = check_stock_server(version)
    if not stock.passed:
        return (stock,)
    meta_graphs = [one for one in saved_model.meta_graphs if list(one.meta_info_def.tags) == [SERVE_TAG]]
    if len(meta_graphs) != 1:
        return (failed(FILES, f"{SAVED_MODEL_FILE} has {len(meta_graphs)} graphs tagged {SERVE_TAG!r} instead of one"),)
    (meta_graph,) = meta_graphs
    signatures = {name: one for name, one in meta_graph.signature_def.items() if name in _served(meta_graph)}
    files, declared = _check_files(version, manifest), check_signatures(signatures, manifest)
    if not declared.passed:
        return stock, files, declared
    return (
        stock,
        files,
        declared,
        _check_labels(meta_graph, signatures, manifest),
        _check_graph(meta_graph, manifest),
        check_queues(meta_graph, manifest),
    )


def _served(meta_graph: Any) -> set[str]:
    return {name for name in meta_graph.signature_def if not name.startswith("__saved_model")}


def _check_files(version: Path, manifest: Mapping[str, Any]) -> Check:
    wanted = [f"{EXTRA_ASSETS}/{name}" for name in (MANIFEST_FILE, WARMUP_FILE)]
    wanted += [f"assets/{name}" for name in (LABELS_FILE, DESCRIPTION_FILE)]
    wanted += [BATCHING_FILE] if manifest["batching"]["mode"] == "server" else []
    wanted.append(f"{_VARIABLES}.index")
    missing = [name for name in wanted if not (version / name).is_file()]
    if not missing and not any(version.glob(f"{_VARIABLES}.data-*")):
        missing = [f"{_VARIABLES}.data-00000-of-00001"]
    if missing:
        return failed(FILES, f"{', '.join(missing)} is missing")
    empty = [
        one.relative_to(version).as_posix() for one in version.rglob("*") if one.is_file() and not one.stat().st_size
    ]
    # Without a weight there is nothing in the files of the variables.
    empty = [name for name in empty if manifest["weights"] == "variables" or not name.startswith(_VARIABLES)]
    return failed(FILES, f"{', '.join(empty)} is empty") if empty else holds(FILES)


def _check_labels(meta_graph: Any, signatures: Mapping[str, Any], manifest: Mapping[str, Any]) -> Check:
    """Check that there is a label for each class, and that those in the graph are the manifest's."""
    width, labels = width_of_predictions(signatures), manifest["labels"]
    # A single unit stands for one score, or for two classes.
    classes = (1, 2) if width == 1 else (width,)
    if len(labels) not in classes:
        short = "short" if len(labels) < classes[-1] else "too many"
        count = _number(abs(len(labels) - classes[-1]))
        return failed(LABELS, f"{len(labels)} labels for {classes[-1]} classes: {count} {short}")
    for found in _texts(meta_graph.graph_def):
        if found != labels and set(found) & set(labels):
            return failed(LABELS, f"the graph holds other labels than the manifest: {_difference(found, labels)}")
    return holds(LABELS)


def _texts(graph_def: Any) -> Iterator[list[str]]:
    """Yield the lists of strings that are constants of the graph."""
    for node in _nodes(graph_def):
        if node.op == "Const" and node.attr["dtype"].type == tf.string.as_datatype_enum:
            tensor = node.attr["value"].tensor
            if len(tensor.tensor_shape.dim) == 1:
                yield [one.decode("utf-8", "replace") for one in tensor.string_val]


def _difference(found: list[str], labels: list[str]) -> str:
    if len(found) != len(labels):
        return f"{len(found)} instead of {len(labels)}"
    places = [index for index, (one, other) in enumerate(zip(found, labels, strict=True)) if one != other]
    if len(places) == 2 and sorted(found) == sorted(labels):
        return f"{labels[places[0]]!r} and {labels[places[1]]!r} are swapped"
    index = places[0]
    return f"class {index} is {found[index]!r} instead of {labels[index]!r}" + (
        f", and {len(places) - 1} more are others" if len(places) > 1 else ""
    )


def _number(count: int) -> str:
    return {1: "one", 2: "two", 3: "three"}.get(count, str(count))


def _check_graph(meta_graph: Any, manifest: Mapping[str, Any]) -> Check:
    wrong = list(_contradictions(meta_graph, manifest))
    return failed(MANIFEST, "; ".join(wrong)) if wrong else holds(MANIFEST)


def _contradictions(meta_graph: Any, manifest: Mapping[str, Any]) -> Iterator[str]:
    nodes = list(_nodes(meta_graph.graph_def))
    operations = {node.op for node in nodes}
    absent = sorted(set(manifest["ops"]) - operations)
    if absent:
        yield f"the manifest names operations that the graph has not ({', '.join(absent)}): it is that of another model"
    # What a table's file is called is a variable too, of type string.
    variables = any(tf.as_dtype(n.attr["dtype"].type).is_floating for n in nodes if n.op == "VarHandleOp")
    if manifest["weights"] == "constants" and variables:
        yield "the manifest says that weights are constants, but the graph has variables"
    if manifest["explanation"]["method"] != manifest["explanation"]["methods"][0]:
        yield "the manifest's method is not the first of its methods"


def _nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
