"""Give the outputs of costly signatures nodes of their own: a request pays for those alone that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorflow.core.protobuf import saved_model_pb2

from gradcam_export.savedmodel.base_path import SAVED_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def separate_outputs(directory: Path, signatures: Collection[str]) -> None:
    """Rewrite the SavedModel in `directory`.

    As TensorFlow writes it, an output of a signature is an output of the call of a function. A Session that fetches one
    keeps the call whole (2.20, so that it stays fetchable); behind an `Identity` it inlines the function, and leaves
    out what was not fetched. Where little could be left out that is no gain: the first request of a signature takes
    more than twice as long to prepare.

    Args:
        directory: of the SavedModel.
        signatures: whose outputs these are.
    """
    if not signatures:
        return
    path = directory / SAVED_MODEL_FILE
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for name in signatures:
            for key, info in meta_graph.signature_def[name].outputs.items():
                node = meta_graph.graph_def.node.add(name=f"{name}/{key}", op="Identity", input=[info.name])
                node.attr["T"].type = info.dtype
                info.name = f"{node.name}:0"
    path.write_bytes(saved_model.SerializeToString())
