"""The function library of a graph: the bodies of its loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def renamed(graph_def: Any, suffix: str) -> Any:
    """Return a copy of `graph_def` whose functions have `suffix` after their names.

    Those of loops are registered in the process as they were traced, and TensorFlow (2.20) refuses others of the same
    name, which an optimiser has changed since.
    """
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    names = {function.signature.name for function in copy.library.function}
    for function in copy.library.function:
        function.signature.name += suffix
        _rename_calls(function.node_def, names, suffix)
    for gradient in copy.library.gradient:
        gradient.function_name += suffix
        gradient.gradient_func += suffix
    _rename_calls(copy.node, names, suffix)
    return copy


def _rename_calls(nodes: Iterable[Any], names: set[str], suffix: str) -> None:
    for node in nodes:
        if node.op in names:
            node.op += suffix
        for attribute in node.attr.values():
            for called in (attribute.func, *attribute.list.func):
                if called.name in names:
                    called.name += suffix
