"""Whether requests of one signature can meet those of another: what graphs share in a server they share by name."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gradcam_export.checks.comparison import Check, failed, holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "batching queues"

_SHARED = frozenset(("BatchFunction", "FIFOQueueV2", "MutableHashTableOfTensorsV2"))
"""Operations whose state every other operation of the same `shared_name` in the process uses."""


def check_queues(meta_graph: Any, manifest: Mapping[str, Any]) -> Check:
    """Check that each signature's queues and tables are its own, and that there are any where the manifest says so.

    Args:
        meta_graph: the version's `MetaGraphDef`.
        manifest: of the version.
    """
    users: dict[str, list[str]] = defaultdict(list)
    for signature, nodes in _nodes_of_signatures(meta_graph).items():
        batching: dict[str, set[str]] = defaultdict(set)
        for node in nodes:
            name = node.attr["shared_name"].s.decode()
            if not name:
                return failed(NAME, f"{signature}: {node.op} {node.name!r} has no shared_name, so all such share one")
            if node.op == "BatchFunction":
                batching[name].add(node.attr["f"].func.name)
                # It is by this name that the server merges rows; the other one names the queues' manager.
                name = node.attr["batching_queue"].s.decode() or name
                batching[name].add(node.attr["f"].func.name)
            users[name].append(signature)
        for name, found in batching.items():
            if len(found) > 1:
                return _shared(name, f"batch functions {', '.join(sorted(found))} of {signature}")
            users[name].append(signature)
    for name, signatures in users.items():
        if len(set(signatures)) > 1:
            return _shared(name, f"signatures {' and '.join(sorted(set(signatures)))}")
    return _as_the_manifest_says(set(users), manifest)


def _as_the_manifest_says(names: set[str], manifest: Mapping[str, Any]) -> Check:
    merges = manifest["batching"]["mode"] == "in-graph"
    if merges != bool(names):
        found = "merges requests" if names else "merges no requests"
        return failed(NAME, f"the manifest says batching {manifest['batching']['mode']!r}, but the graph {found}")
    return holds(NAME)


def _shared(name: str, users: str) -> Check:
    return failed(NAME, f"{users} share the batching queue {name!r}: callers of one would get the answers of the other")


def _nodes_of_signatures(meta_graph: Any) -> dict[str, list[Any]]:
    """Return the nodes with a shared state that each signature reaches."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    functions = {one.signature.name: one.node_def for one in meta_graph.graph_def.library.function}
    found = {}
    for name, signature in meta_graph.signature_def.items():
        reached: set[str] = set()
        frontier = [nodes[output.name.partition(":")[0]] for output in signature.outputs.values() if output.name]
        stateful = []
        while frontier:
            node = frontier.pop()
            if node.op in _SHARED:
                stateful.append(node)
            for called in _called(node):
                if called not in reached:
                    reached.add(called)
                    frontier.extend(functions.get(called, ()))
        found[name] = stateful
    return found


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        for function in value.list.func:
            yield function.name
