"""The models of one server and the labels of their versions: what a configuration says of them, and its edits.

As in TensorFlow Serving (server_core.cc), an edit is taken whole or not at all. Its labels are looked at before its
versions: a label moves only to a version that is loaded already, so that its callers never wait for one.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from gradcam_export.errors import ServeError
from gradcam_export.server.models import read_model_config
from gradcam_export.server.polling import start_polling
from gradcam_export.server.repository import ModelRepository, find_versions
from gradcam_export.server.status import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Callable, KeysView, Mapping, Sequence
    from pathlib import Path

    from gradcam_export.server.models import ServedModel
    from gradcam_export.server.status import StatusError

logger = logging.getLogger("gradcam_export.server")


class Catalogue:
    """The models that a server has; requests may look into it from any thread.

    Args:
        models: what to serve.
        poll_seconds: how often the base paths are looked at.
        config_file: what `models` was read from.
        config_poll_seconds: how often that is read again; 0: never.
        unavailable_labels: whether a label that is not in use may name a version that is not loaded:
            --allow_version_labels_for_unavailable_models.

    Raises:
        ServeError: two models have one name, or a configuration is to be read again without a file.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        poll_seconds: float,
        config_file: Path | None = None,
        config_poll_seconds: float = 0,
        unavailable_labels: bool = False,
    ) -> None:
        _check_names(models)
        if config_poll_seconds > 0 and config_file is None:
            raise ServeError("There is no configuration to read again: give one (--model-config-file).")
        self._models = tuple(models)
        self._config_file = config_file
        self._config_poll_seconds = config_poll_seconds
        self._poll_seconds = poll_seconds
        self._unavailable_labels = unavailable_labels
        self._repositories = {model.name: ModelRepository(model) for model in models}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._reloading = threading.Lock()
        self._stopping = threading.Event()
        self._pollers: list[threading.Thread] = []

    @property
    def names(self) -> KeysView[str]:
        """All models there ever were."""
        return self._repositories.keys()

    def repository(self, name: str) -> ModelRepository | None:
        """The versions of model `name`, if there is or was one."""
        return self._repositories.get(name)

    def labelled(self, name: str, label: str) -> int:
        """The version of model `name` that `label` stands for, loaded or not.

        Raises:
            StatusError: INVALID_ARGUMENT: the model has no such label.
        """
        try:
            return self._labels[name][label]
        except KeyError:
            raise invalid_argument(f"Unrecognized servable version label: {label}") from None

    def start(self) -> None:
        """Load what every model has, give the labels, and look for new versions from now on.

        Raises:
            ServeError: a base path holds no version, or none that can be loaded; a label names one that is not.
        """
        try:
            for repository in self._repositories.values():
                _load_first(repository)
            self._labels = self._assigned(self._models)
        except ServeError:
            self.close()
            raise
        if any(self._labels.values()) and not self._unavailable_labels:
            logger.warning(
                "The stock server reads labels before it loads versions, and starts with labels only under "
                "--allow_version_labels_for_unavailable_models."
            )
        self._watch_config_file()
        for repository in self._repositories.values():
            self._watch(repository)

    def reload(self, models: Sequence[ServedModel]) -> None:
        """Serve `models` and no others from the next look at the base paths on; their labels hold at once.

        Raises:
            ServeError: two models have one name, or a label names a version that is not loaded; nothing is changed.
        """
        with self._reloading:
            _check_names(models)
            self._labels = self._assigned(models)
            listed = {model.name: model for model in models}
            for name, repository in self._repositories.items():
                repository.configure(listed.pop(name, None))
            for name, model in listed.items():
                self._repositories[name] = ModelRepository(model)
                self._watch(self._repositories[name])

    def stop(self) -> None:
        """Look for no more versions, and no more edits."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and unload everything."""
        self.stop()
        # The first looks for edits, which may bring models, and with them pollers.
        for poller in self._pollers:
            poller.join()
        for repository in self._repositories.values():
            repository.close()

    def _watch_config_file(self) -> None:
        file = self._config_file
        if file is not None and self._config_poll_seconds > 0:
            self._start_polling(lambda: self.reload(read_model_config(file)), self._config_poll_seconds, str(file))

    def _watch(self, repository: ModelRepository) -> None:
        self._start_polling(lambda: _poll(repository), self._poll_seconds, repository.model.name)

    def _start_polling(self, look: Callable[[], None], seconds: float, what: str) -> None:
        self._pollers.append(start_polling(look, seconds=seconds, what=what, stopping=self._stopping))

    def _assigned(self, models: Sequence[ServedModel]) -> dict[str, dict[str, int]]:
        """The labels of `models`, if each may name what it names."""
        for model in models:
            served = _available(self._repositories.get(model.name))
            used = self._labels.get(model.name, {})
            for label, number in model.labels.items():
                unused = used.get(label, number) == number
                if number not in served and not (unused and self._unavailable_labels):
                    raise ServeError(
                        f"Model {model.name!r}: label {label!r} names {number}, but {served} are served: "
                        "a label is given to a version that is loaded."
                    )
        return {model.name: dict(model.labels) for model in models}


def _check_names(models: Sequence[ServedModel]) -> None:
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ServeError(f"Illegal to list model {name} multiple times: a name is one base path.")


def _available(repository: ModelRepository | None) -> list[int]:
    states = repository.states() if repository is not None else {}
    return sorted(number for number, state in states.items() if state.state == ModelVersionStatus.AVAILABLE)


def _poll(repository: ModelRepository) -> None:
    _log_failures(repository, repository.poll())


def _log_failures(repository: ModelRepository, failures: Mapping[int, StatusError]) -> None:
    for number, failure in failures.items():
        logger.error("%s version %d is not served: %s", repository.model.name, number, failure)


def _load_first(repository: ModelRepository) -> None:
    """Load what a model has at start-up: the port is not opened before there is something to serve."""
    model = repository.model
    try:
        failures = repository.poll()
    except OSError as error:
        raise ServeError(f"Model {model.name!r}: cannot read its base path: {error}") from error
    if not _available(repository):
        raise ServeError(f"Model {model.name!r}: {_nothing_to_serve(model, failures)}")
    _log_failures(repository, failures)


def _nothing_to_serve(model: ServedModel, failures: Mapping[int, StatusError]) -> str:
    if failures:
        number = max(failures)
        return f"version {number} cannot be served: {failures[number]}"
    if found := find_versions(model.base_path):
        return f"its version policy takes none of the versions {sorted(found)} in {model.base_path}."
    if (model.base_path / "saved_model.pb").exists():
        return f"{model.base_path} is itself a version; give the directory that holds it."
    return f"{model.base_path} holds no version, a directory named by a number such as 1."
