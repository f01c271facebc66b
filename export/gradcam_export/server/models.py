"""Which models to serve, and which of their versions: what `--model-config-file` says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from google.protobuf import text_format
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from gradcam_export.errors import ServeError

VersionPolicy: TypeAlias = Callable[[Collection[int]], set[int]]
"""Which of the versions that are found are to be served."""


def latest(count: int) -> VersionPolicy:
    """The `count` highest versions."""
    return lambda versions: set(sorted(versions)[-count:])


def every(versions: Collection[int]) -> set[int]:
    """All versions."""
    return set(versions)


def specific(wanted: Collection[int]) -> VersionPolicy:
    """These versions and no others."""
    return lambda versions: set(wanted) & set(versions)


LATEST = latest(1)
PLATFORM = "tensorflow"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model to serve.

    Attributes:
        name: what requests call it.
        base_path: the directory that holds its versions, each named by a number.
        policy: which of those are served; by default the highest one.
        labels: names that requests may use for a version number.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = LATEST
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_config(path: Path) -> tuple[ServedModel, ...]:
    """The models in a text file of `tensorflow.serving.ModelServerConfig`, the stock server's own format.

    Raises:
        ServeError: the file cannot be read, or says what the stock server would refuse.
    """
    try:
        config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ServeError(f"{path} is not a readable ModelServerConfig: {error}") from error
    if not config.model_config_list.config:
        raise ServeError(f"{path} lists no model: a model_config_list with a config for each is needed.")
    return tuple(_served_model(path, model) for model in config.model_config_list.config)


def _served_model(path: Path, config: model_server_config_pb2.ModelConfig) -> ServedModel:
    where = f"{path}: model {config.name!r}"
    base_path = Path(config.base_path)
    if not config.name:
        raise ServeError(f"{path}: the model of {config.base_path!r} has no name.")
    if not base_path.is_absolute():
        raise ServeError(f"{where} needs an absolute base_path, not {config.base_path!r}.")
    if config.model_type != model_server_config_pb2.TENSORFLOW and config.model_platform != PLATFORM:
        raise ServeError(f"{where} has model_platform {config.model_platform!r}; {PLATFORM!r} is served.")
    if config.HasField("logging_config"):
        raise ServeError(
            f"{where} has a logging_config: No request-logger-creator provided. "
            "The stock server refuses it too; remove it, and log in the client or a proxy."
        )
    return ServedModel(
        name=config.name,
        base_path=base_path,
        policy=_policy(config.model_version_policy),
        labels=dict(config.version_labels),
    )


def _policy(
    config: file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy,
) -> VersionPolicy:
    match config.WhichOneof("policy_choice"):
        case "all":
            return every
        case "specific":
            return specific(config.specific.versions)
        case _:  # "latest", or nothing said
            return latest(max(1, config.latest.num_versions))
