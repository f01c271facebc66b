"""What a stock TensorFlow Serving can run, and what of a graph it cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    Attributes = Mapping[str, list[str] | None]
    """Name → values it may have, or `None` for any."""

SHOWN_PLACES = 5
"""In one line there is room for so many."""

_PYTHON = frozenset(("PyFunc", "PyFuncStateless", "EagerPyFunc"))
_XLA_FUNCTION = "_XlaMustCompile"
_REFERENCE = 100
"""What the number of a type is raised by where a node takes a reference (TensorFlow 1's variables)."""


@dataclass(frozen=True)
class StockServer:
    """What TensorFlow Serving links as it is released: TensorFlow, TensorFlow Text, Decision Forests; no Python."""

    server: str
    """Its release, `2.20`."""
    graph_def_version: int
    operations: Mapping[str, Attributes]
    """Operation with a kernel for CPUs → its attributes."""
    gpu: Container[str]
    """Operations with kernels for GPUs alone."""


@dataclass(frozen=True)
class Obstacle:
    """What keeps a stock server from running one node or function."""

    place: str
    """The node's or function's name, `function/node` within the graph's library."""
    what: str
    """Operation and reason."""
    remedy: str


@cache
def stock_server() -> StockServer:
    """Return what the oldest server that exports are made for can run (tests/make_stock_ops.py writes it down)."""
    return StockServer(**json.loads(files(__package__).joinpath("stock_ops.json").read_text("ascii")))


def obstacles(graph_def: Any) -> Iterator[Obstacle]:
    """Yield what a stock server cannot run of a `GraphDef`: versions, nodes, and the functions of its library."""
    server, library = stock_server(), graph_def.library.function
    needed, known = graph_def.versions.min_consumer, server.graph_def_version
    if needed > known or known in graph_def.versions.bad_consumers:
        yield Obstacle(
            place="the graph",
            what=f"is of version {graph_def.versions.producer} for readers of version {needed} or newer, "
            f"and that server reads version {known}",
            remedy=f"export with TensorFlow {server.server}",
        )
    names = {function.signature.name for function in library}
    yield from node_obstacles(graph_def.node, names)
    for function in library:
        if function.attr[_XLA_FUNCTION].b if _XLA_FUNCTION in function.attr else False:
            yield Obstacle(function.signature.name, *_by_xla("the function"))
        for found in node_obstacles(function.node_def, names):
            yield Obstacle(f"{function.signature.name}/{found.place}", found.what, found.remedy)


def node_obstacles(nodes: Iterable[Any], functions: Container[str] = (), *, written: bool = True) -> Iterator[Obstacle]:
    """Yield what a stock server cannot run of these `NodeDef`s.

    Args:
        nodes: of a graph or of a function.
        functions: names of the library's functions, which a node may call like an operation.
        written: whether they come from a SavedModel, whose writer leaves out attributes that have their default;
            others may have some that the server does not know and need not know.
    """
    for node in nodes:
        if _XLA_FUNCTION in node.attr and node.attr[_XLA_FUNCTION].b:
            yield Obstacle(node.name, *_by_xla(node.op))
            continue
        if node.op in functions:
            continue
        found = _unknown_operation(node.op) or (_unknown_attribute(node) if written else None)
        if found:
            yield Obstacle(node.name, *found)


def say(found: Iterable[Obstacle]) -> str:
    """Return one line on all obstacles: each kind once, with the places where it was met."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in found:
        places.setdefault((one.what, one.remedy), []).append(one.place)
    return "; ".join(f"{_some(where)}: {what} ({remedy})" for (what, remedy), where in places.items())


def _some(places: list[str]) -> str:
    names = list(dict.fromkeys(places))
    left_out = len(names) - SHOWN_PLACES
    return ", ".join(names[:SHOWN_PLACES]) + (f" and {left_out} more" if left_out > 0 else "")


def _by_xla(name: str) -> tuple[str, str]:
    return f"{name} is compiled by XLA, which a stock server refuses", "leave out jit_compile=True and JAX functions"


def _unknown_operation(name: str) -> tuple[str, str] | None:
    server = stock_server()
    if name in server.operations:
        return None
    if name in _PYTHON:
        return f"{name} runs Python code, and a server has no Python", "write it with keras.ops or TensorFlow's own"
    if name.removeprefix("_").startswith("Xla"):
        return _by_xla(name)
    if name in server.gpu:
        return f"{name} has no kernel for CPUs", "export with CUDA_VISIBLE_DEVICES=-1 or use_cudnn=False"
    return (
        f"{name} is no operation that TensorFlow Serving {server.server} can run",
        f"write it with operations of TensorFlow {server.server}, or link it into a server of your own",
    )


def _unknown_attribute(node: Any) -> tuple[str, str] | None:
    """Return what is wrong with an attribute: newer than the server, or of a value that it has no kernel for."""
    server = stock_server()
    known = server.operations[node.op]
    for name, value in node.attr.items():
        if name.startswith("_"):
            continue
        if name not in known:
            return (
                f"{node.op} has an attribute {name!r}, newer than TensorFlow Serving {server.server}, which ignores it",
                f"export with TensorFlow {server.server}",
            )
        allowed = known[name]
        wrong = [] if allowed is None else [one for one in _values(value) if one not in allowed]
        if wrong:
            return (
                f"{node.op} has no kernel for {name}={wrong[0]} in TensorFlow Serving {server.server}",
                f"of {', '.join(allowed or ())}, use one",
            )
    return None


def _values(attribute: Any) -> Iterator[str]:
    """Yield the types, or the text, that an attribute holds."""
    kinds = attribute.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    for kind in (attribute.type, *attribute.list.type):
        if kind:
            yield kinds[kind % _REFERENCE].name.removeprefix("DT_").lower()
    if attribute.s:
        yield attribute.s.decode("utf-8", "replace")
