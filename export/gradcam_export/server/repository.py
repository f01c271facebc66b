"""The versions of one model: found as TensorFlow Serving finds them, loaded before others are unloaded."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from gradcam_export.savedmodel.session import LoadedVersion
from gradcam_export.server.status import StatusError, from_op_error
from gradcam_export.server.warmup import replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradcam_export.server.models import ServedModel

logger = logging.getLogger("gradcam_export.server")

# More digits than int64 has, Python is not asked to read: it refuses thousands of them.
_INTEGER = re.compile(r"(?P<sign>[+-]?)(?=[0-9])0*(?P<digits>[0-9]{0,19})")
_INT64 = range(-(2**63), 2**63)


def version_number(name: str) -> int | None:
    """The version that a directory called `name` holds, None if none: absl::SimpleAtoi to int64."""
    match = _INTEGER.fullmatch(name.strip(" \t\n\v\f\r"))
    if match is None:
        return None
    number = int(match["sign"] + (match["digits"] or "0"))
    return number if number in _INT64 else None


def find_versions(base_path: Path) -> dict[int, Path]:
    """What under `base_path` is named as a version; of `01` and `1` the stock server takes the last by name.

    Raises:
        OSError: `base_path` cannot be read.
    """
    children = sorted(base_path.iterdir(), key=lambda child: child.name)
    numbered = ((version_number(child.name), child) for child in children)
    return {number: child for number, child in numbered if number is not None}


@dataclass(frozen=True)
class VersionState:
    """Where a version stands: one of `ModelVersionStatus.State`, and the error that ended it, if any."""

    state: int
    error: StatusError | None = None


@dataclass
class Served:
    """A version that requests may use."""

    number: int
    loaded: LoadedVersion
    in_flight: int = 0
    retired: bool = False


class ModelRepository:
    """The versions of one model. `poll` is called from one thread, all else from any."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._listed = True
        self._lock = threading.Lock()
        self._serving: dict[int, Served] = {}
        self._states: dict[int, VersionState] = {}
        self._failed: set[int] = set()
        self._garbage = False

    def configure(self, model: ServedModel | None) -> None:
        """Follow `model`, of the same name, from the next `poll` on; None: unload everything then.

        A version that is loaded stays as it is, even where another base path has one of the same number.
        """
        if model is not None:
            self.model = model
        self._listed = model is not None

    def poll(self) -> dict[int, StatusError]:
        """Look at the base path once: load what is new, then unload what is gone.

        Returns:
            The versions that failed to load just now. They are not tried again while they stay where they
            are: publish a mended one under another number. (The stock server tries five times more, a minute
            apart.)

        Raises:
            OSError: the base path cannot be read; what is served stays.
        """
        model = self.model
        found = find_versions(model.base_path) if self._listed else {}
        aspired = model.policy(found)
        self._failed &= aspired
        wanted = aspired - self._failed - self._serving.keys()
        for number in wanted:
            self._set_state(number, ModelVersionStatus.START)
        for number in sorted(wanted, reverse=True):
            self._load(number, found[number])
        self._retire(aspired)
        self._collect_garbage()
        return {number: error for number in wanted if (error := self._states[number].error)}

    @contextlib.contextmanager
    def lease(self, number: int | None) -> Iterator[Served]:
        """Hold version `number` (None: the highest that is available) so that it is not unloaded meanwhile.

        Raises:
            StatusError: NOT_FOUND: it is not available.
        """
        with self._lock:
            served = self._serving.get(max(self._serving, default=0) if number is None else number)
            if served is None:
                name = self.model.name
                asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
            served.in_flight += 1
        try:
            yield served
        finally:
            with self._lock:
                served.in_flight -= 1
                idle = served.retired and not served.in_flight
            if idle:
                self._unload(served)

    def states(self) -> Mapping[int, VersionState]:
        """Every version that was ever met, highest first."""
        with self._lock:
            return dict(sorted(self._states.items(), reverse=True))

    def close(self) -> None:
        """Unload everything, each version as soon as the requests that it is answering are answered."""
        for number in list(self._serving):
            self._quiesce(number)

    def _load(self, number: int, path: Path) -> None:
        self._set_state(number, ModelVersionStatus.LOADING)
        try:
            loaded = load_and_warm_up(path)
        except StatusError as error:
            self._garbage = True
            self._failed.add(number)
            self._set_state(number, ModelVersionStatus.END, error)
            return
        with self._lock:
            self._serving[number] = Served(number, loaded)
            self._states[number] = VersionState(ModelVersionStatus.AVAILABLE)
        logger.info("%s version %d is available", self.model.name, number)

    def _retire(self, aspired: set[int]) -> None:
        """Unload what is no longer aspired to, but never the last that can answer in place of the aspired."""
        unwanted = self._serving.keys() - aspired
        if aspired and not aspired & self._serving.keys():
            unwanted.discard(max(unwanted, default=0))
        for number in sorted(unwanted):
            self._quiesce(number)

    def _quiesce(self, number: int) -> None:
        with self._lock:
            served = self._serving.pop(number)
            served.retired = True
            self._states[number] = VersionState(ModelVersionStatus.UNLOADING)
            idle = not served.in_flight
        if idle:
            self._unload(served)

    def _unload(self, served: Served) -> None:
        served.loaded.close()
        self._garbage = True
        with self._lock:
            # The same number may have been published and loaded again while the last request was answered.
            if self._states[served.number].state == ModelVersionStatus.UNLOADING:
                self._states[served.number] = VersionState(ModelVersionStatus.END)
        logger.info("%s version %d is unloaded", self.model.name, served.number)

    def _collect_garbage(self) -> None:
        """Return the memory of versions that are gone to those that come.

        A `tf.Graph` is a web of reference cycles, small in Python, large in C++. Beside the hundreds of thousands of
        objects that TensorFlow's modules are, the garbage collector would not come to it for dozens of versions
        (TensorFlow 2.20, Python 3.11: 10 MB more for each version that came and went).
        """
        if self._garbage:
            self._garbage = False
            gc.collect()

    def _set_state(self, number: int, state: int, error: StatusError | None = None) -> None:
        with self._lock:
            self._states[number] = VersionState(state, error)


def load_and_warm_up(path: Path) -> LoadedVersion:
    """The version in directory `path`, its warm-up requests answered.

    Raises:
        StatusError: it cannot be loaded, or does not answer its own warm-up requests.
    """
    try:
        loaded = LoadedVersion.load(path)
    except tf.errors.OpError as error:
        raise from_op_error(error) from error
    except OSError as error:
        raise StatusError(grpc.StatusCode.NOT_FOUND, str(error)) from error
    except (RuntimeError, ValueError, KeyError) as error:
        # How Python's loader says: no graph for serving, an op that this TensorFlow lacks, a graph cut short.
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    try:
        replay(loaded, path)
    except StatusError:
        loaded.close()
        raise
    return loaded
