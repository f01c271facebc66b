"""Hold a written version against what the stock server has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorflow.core.protobuf import saved_model_pb2

from gradcam_export.checks.comparison import Check, failed, holds
from gradcam_export.stock_ops import obstacles, say, stock_server

if TYPE_CHECKING:
    from pathlib import Path

NAME = "stock_server"


def check_stock_server(version: Path) -> Check:
    """Check operations, attributes and versions of every graph in `version`, without running any.

    The runtime at hand may be another release, or have libraries of its own loaded: that it runs a graph says little.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    found = [one for meta_graph in saved_model.meta_graphs for one in obstacles(meta_graph.graph_def)]
    if found:
        return failed(NAME, f"TensorFlow Serving {stock_server().server} cannot run {say(found)}")
    return holds(NAME)
