"""`--ssl-config-file` and `--monitoring-config-file`: text protos in the stock server's own format.

Their messages are declared here, with the names and numbers of TensorFlow Serving's ssl_config.proto and
monitoring_config.proto: tensorflow-serving-api does not bring them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from gradcam_export.errors import ServeError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

_PACKAGE = "tensorflow.serving"
_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _FieldProto.TYPE_STRING, "bool": _FieldProto.TYPE_BOOL}
_FIELDS = {
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, f".{_PACKAGE}.PrometheusConfig")},
}


@dataclass(frozen=True)
class SslConfig:
    """The identity that the gRPC port proves, and whom it believes; all in PEM.

    Attributes:
        server_key: private key.
        server_cert: its certificate, followed by those of its issuers.
        custom_ca: certificates of those who issue the callers'; None: the system's.
        client_verify: whether callers must prove who they are.
    """

    server_key: bytes = field(repr=False)
    server_cert: bytes
    custom_ca: bytes | None = None
    client_verify: bool = False


def read_ssl_config(path: Path) -> SslConfig:
    """The `tensorflow.serving.SSLConfig` in the text file `path`.

    Raises:
        ServeError: the file cannot be read, or lacks a part, or names a file where the PEM text itself belongs.
    """
    config = _read(path, "SSLConfig")
    for name in ("server_key", "server_cert"):
        _check_pem(path, name, getattr(config, name))
    if config.custom_ca:
        _check_pem(path, "custom_ca", config.custom_ca)
    elif config.client_verify:
        raise ServeError(f"{path}: client_verify needs custom_ca, the certificates of those who issue the callers'.")
    return SslConfig(
        server_key=config.server_key.encode(),
        server_cert=config.server_cert.encode(),
        custom_ca=config.custom_ca.encode() or None,
        client_verify=config.client_verify,
    )


def _check_pem(path: Path, name: str, value: str) -> None:
    if "-----BEGIN " not in value:
        found = "is missing" if not value else "is not PEM text, which begins with -----BEGIN"
        raise ServeError(
            f"{path}: {name} {found}. The stock server wants the text itself there, its line ends written \\n, "
            "and not the name of a file."
        )


def read_monitoring_config(path: Path) -> str | None:
    """Where the metrics are to be read, by the `tensorflow.serving.MonitoringConfig` in the text file `path`.

    Returns:
        A path on the REST port; None: the file does not enable them.

    Raises:
        ServeError: the file cannot be read, or the path does not begin with a slash.
    """
    config = _read(path, "MonitoringConfig").prometheus_config
    if not config.enable:
        return None
    if config.path and not config.path.startswith("/"):
        raise ServeError(f"{path}: the path of the metrics must begin with a slash, not be {config.path!r}.")
    return str(config.path) or DEFAULT_METRICS_PATH


def _read(path: Path, name: str) -> Any:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), _message(name))
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ServeError(f"{path} is not a readable {name}: {error}") from error


def _message(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="gradcam/config_files.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _FIELDS.items():
        declared = file.message_type.add(name=message)
        for field_name, (number, kind) in fields.items():
            added = declared.field.add(name=field_name, number=number, label=_FieldProto.LABEL_OPTIONAL)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = _FieldProto.TYPE_MESSAGE, kind
    # Of its own: a program may hold the stock server's declarations in the default pool.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()
