"""Which kernels ran, read from TensorFlow's own profile."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2


class Kernels:
    """What was profiled: `runs` counts how often each node ran, by name and operation."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()

    def operations(self) -> set[str]:
        """Return the kinds of operations that ran."""
        return {operation for _, operation in self.runs}

    def batches(self) -> int:
        """Return how often the network ran: as often as its convolutions did."""
        counts = Counter(count for (_, operation), count in self.runs.items() if "Conv" in operation)
        return counts.most_common(1)[0][0]


def merges(node: str) -> bool:
    """Tell whether a node is one of those that merge requests: it numbers rows, or takes them in turn."""
    return node.endswith("/keys") or node.startswith("while/")


@contextmanager
def profiled(directory: Path) -> Iterator[Kernels]:
    """Record the kernels that run inside, in all threads."""
    kernels = Kernels()
    tf.profiler.experimental.start(str(directory))
    try:
        yield kernels
    finally:
        tf.profiler.experimental.stop()
    (file,) = directory.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                node, separator, operation = names[event.metadata_id].rpartition(":")
                if separator and not operation.startswith(":"):
                    kernels.runs[node, operation.split("#")[0]] += 1
