"""The files of `serving_config/`, read the way those read them for whom they are written."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

CONFIG = Path(__file__).parents[1] / "serving_config"
IMAGE = "tensorflow/serving:2.20.0"

INT64, BOOL, STRING, MESSAGE = 3, 8, 9, 11  # of FieldDescriptorProto.Type
INT64_VALUE, STRING_VALUE, BOOL_VALUE = (f".google.protobuf.{kind}Value" for kind in ("Int64", "String", "Bool"))


OBJECT = r"(apiVersion|kind):|\w+:$"


@functools.cache
def _stock_pool() -> descriptor_pool.DescriptorPool:
    """BatchingParameters, MonitoringConfig and SSLConfig, which tensorflow-serving-api leaves out.

    Declared with the names, numbers and types of TensorFlow Serving 2.20's session_bundle_config.proto,
    monitoring_config.proto and ssl_config.proto, so that protobuf's own text parser judges them as the server does.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="test/serving_config.proto",
        package="test.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )

    def message(name: str, *fields: tuple[str, int, str | int], repeated: str = "") -> None:
        declared = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = 3 if field == repeated else 1
            if isinstance(kind, int):
                declared.field.add(name=field, number=number, label=label, type=kind)
            else:
                declared.field.add(name=field, number=number, label=label, type=MESSAGE, type_name=kind)

    message(
        "BatchingParameters",
        ("max_batch_size", 1, INT64_VALUE),
        ("batch_timeout_micros", 2, INT64_VALUE),
        ("max_enqueued_batches", 3, INT64_VALUE),
        ("num_batch_threads", 4, INT64_VALUE),
        ("thread_pool_name", 5, STRING_VALUE),
        ("allowed_batch_sizes", 6, INT64),
        ("pad_variable_length_inputs", 7, BOOL),
        ("enable_large_batch_splitting", 8, BOOL_VALUE),
        ("max_execution_batch_size", 9, INT64_VALUE),
        repeated="allowed_batch_sizes",
    )
    message("PrometheusConfig", ("enable", 1, BOOL), ("path", 2, STRING))
    message("MonitoringConfig", ("prometheus_config", 1, ".test.serving.PrometheusConfig"))
    message(
        "SSLConfig",
        ("server_key", 1, STRING),
        ("server_cert", 2, STRING),
        ("custom_ca", 3, STRING),
        ("client_verify", 4, BOOL),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return pool


def parse(name: str, text: str) -> Any:
    """`text` as the stock server's message `name`: BatchingParameters, MonitoringConfig or SSLConfig."""
    kind = _stock_pool().FindMessageTypeByName(f"test.serving.{name}")
    return text_format.Parse(text, message_factory.GetMessageClass(kind)())


def models() -> dict[str, model_server_config_pb2.ModelConfig]:
    """The models of `models.config` by name."""
    text = (CONFIG / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {model.name: model for model in config.model_config_list.config}


def batching() -> Any:
    return parse("BatchingParameters", (CONFIG / "batching.pbtxt").read_text())


def metrics_path(file: str = "monitoring.pbtxt") -> str:
    monitoring = parse("MonitoringConfig", (CONFIG / file).read_text())
    assert monitoring.prometheus_config.enable
    return str(monitoring.prometheus_config.path)


def read_yaml(file: str) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load((CONFIG / file).read_text())


def read_objects(file: str) -> list[dict[str, Any]]:
    """The Kubernetes objects in a YAML file."""
    return list(yaml.safe_load_all((CONFIG / file).read_text()))


def flags(command: list[str]) -> dict[str, str]:
    """The server's flags by name; what Compose takes from the environment has its default."""
    return dict(with_defaults(flag).removeprefix("--").split("=", 1) for flag in command)


def with_defaults(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def silent_lines(text: str, *, blocks: bool) -> list[str]:
    """The lines that nobody explains: with no remark at their end, nor on the line above.

    With `blocks`, an explanation holds for what is indented below it; what every Kubernetes object has needs none, nor
    does a key that only opens a block of explained lines.
    """
    silent, remark_above, depth = [], False, None
    for line in text.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare and depth is not None and indent <= depth:
            depth = None
        explained = "#" in line or remark_above or depth is not None
        remark_above = bare.startswith("#")
        if not bare or remark_above or bare in {"}", "---"}:
            continue
        if explained and blocks and depth is None:
            depth = indent
        if not explained and not (blocks and re.match(OBJECT, bare)):
            silent.append(bare)
    return silent
