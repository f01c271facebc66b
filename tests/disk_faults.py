"""Faults of what lies on a disk, each alone, and what the gate has to say of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradcam_export.manifest import Manifest
from gradcam_export.savedmodel import warmup
from gradcam_export.savedmodel.write import EXTRA_ASSETS, MANIFEST_FILE, write_description
from mutations import Fault
from tensorflow.core.protobuf import saved_model_pb2


def _manifest(version: Path) -> Path:
    return version / EXTRA_ASSETS / MANIFEST_FILE


def manifest_with(**sections: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return what changes facts of the manifest, wherever it is written."""

    def edit(version: Path) -> None:
        facts = json.loads(_manifest(version).read_text())
        for section, changes in sections.items():
            facts[section] = {**facts[section], **changes} if isinstance(changes, Mapping) else changes
        _manifest(version).write_text(json.dumps(facts))
        facts.pop("schema")
        write_description(Manifest(**facts), version / "assets" / "describe.tsv")

    return edit


def in_graph(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Return what edits the written `MetaGraphDef`."""

    def edit(version: Path) -> None:
        file = version / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(saved.meta_graphs[0])
        file.write_bytes(saved.SerializeToString())

    return edit


def unknown_operation(meta_graph: Any) -> None:
    function = next(one for one in meta_graph.graph_def.library.function if any(n.op == "Relu" for n in one.node_def))
    next(node for node in function.node_def if node.op == "Relu").op = "FusedReluOfTheFuture"


def shared_queue(meta_graph: Any) -> None:
    for function in meta_graph.graph_def.library.function:
        for node in function.node_def:
            for key in ("shared_name", "batching_queue"):
                name = node.attr[key].s if key in node.attr else b""
                if name.startswith(b"top_k-"):
                    node.attr[key].s = name.replace(b"top_k-", b"explain-")


def half_of(file: str) -> Callable[[Path], None]:
    def edit(version: Path) -> None:
        content = (version / file).read_bytes()
        (version / file).write_bytes(content[: len(content) // 2])

    return edit


def warm_up_of(**changes: Any) -> Callable[[Path], None]:
    """Return what writes the warm-up of a version with another manifest."""

    def edit(version: Path) -> None:
        facts = json.loads(_manifest(version).read_text())
        facts.pop("schema")
        for section, values in changes.items():
            facts[section] = {**facts[section], **values}
        warmup.write_warmup(version / EXTRA_ASSETS / warmup.WARMUP_FILE, Manifest(**facts))

    return edit


EDITS = (
    Fault(
        "missing variables file",
        r"variables/variables\.data-00000-of-00001 is missing",
        edit=lambda version: (version / "variables/variables.data-00000-of-00001").unlink(),
    ),
    Fault("truncated variables", "does not run in a Session", edit=half_of("variables/variables.data-00000-of-00001")),
    Fault("truncated saved_model.pb", r"saved_model\.pb is cut off or damaged", edit=half_of("saved_model.pb")),
    Fault(
        "stale warm-up of another input",
        "the warm-up request of '.*' fails",
        edit=warm_up_of(input={"shape": [32, 32, 3]}),
    ),
    Fault(
        "stale warm-up of other batches",
        "the warm-up is stale: it has batches of 1, 3, but the allowed sizes are 1$",
        edit=warm_up_of(batching={"allowed_batch_sizes": [1, 3]}),
    ),
    Fault(
        "stale warm-up of another method",
        "the warm-up asks for explain_layercam, which the version has not",
        edit=warm_up_of(
            explanation={"methods": ["gradcam", "layercam"]}, batching={"methods": ["gradcam", "layercam"]}
        ),
    ),
    Fault(
        "damaged warm-up",
        "the warm-up file cannot be read",
        edit=half_of(f"{EXTRA_ASSETS}/{warmup.WARMUP_FILE}"),
    ),
    Fault(
        "manifest of another architecture",
        r"input 'images' is of shape \[B,16,16,3\] instead of \[B,32,32,3\].*output 'heatmap' is of shape "
        r"\[B,8,8\] instead of \[B,4,4\]",
        edit=manifest_with(input={"shape": [32, 32, 3]}, explanation={"grid": [4, 4]}),
    ),
    Fault(
        "manifest of other weights",
        "the manifest is of another model: it names the weights sha256:0000",
        edit=manifest_with(model={"digest": "sha256:" + 64 * "0"}),
    ),
    Fault(
        "manifest of other operations",
        r"the manifest names operations that the graph has not \(Selu\)",
        edit=manifest_with(ops=["Relu", "Selu"]),
    ),
    Fault(
        "manifest of a version that does not batch",
        "the manifest says batching 'none', but the graph merges requests",
        edit=manifest_with(batching={"mode": "none"}),
        merged=True,
    ),
    Fault(
        "an operation that the server lacks",
        r"FusedReluOfTheFuture is no operation that TensorFlow Serving 2\.20 can run",
        edit=in_graph(unknown_operation),
    ),
    Fault(
        "shared batching queue",
        r"signatures explain and top_k share the batching queue 'explain-\w+-0': callers of one would get the answers",
        edit=in_graph(shared_queue),
        merged=True,
    ),
    Fault(
        "labels of describe in another order",
        r"describe answers other labels than assets/labels\.txt holds",
        edit=lambda version: (version / "assets/labels.txt").write_text(
            "".join(f"class_{index}\n" for index in (0, 2, 1, 3, 4))
        ),
    ),
    Fault(
        "missing signature",
        "signature 'predict' is missing",
        edit=in_graph(lambda graph: graph.signature_def.pop("predict")),
    ),
    Fault(
        "empty asset",
        r"assets/describe\.tsv is empty",
        edit=lambda version: (version / "assets/describe.tsv").write_bytes(b""),
    ),
)
"""Faults of what lies on a disk: a good version, spoilt."""
