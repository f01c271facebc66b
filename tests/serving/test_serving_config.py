"""What an operator copies from `serving_config/` is what the server reads, and fits what `build` writes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from gradcam_export.server import EmbeddedServer, ServedModel, read_model_config
from tensorflow_serving.config import model_server_config_pb2

CONFIG = Path(__file__).parents[2] / "serving_config"
FILES = ["models.config", "batching.pbtxt", "monitoring.pbtxt", "docker-compose.yaml"]

INT64, BOOL, STRING, MESSAGE = 3, 8, 9, 11  # of FieldDescriptorProto.Type
INT64_VALUE, STRING_VALUE, BOOL_VALUE = (f".google.protobuf.{kind}Value" for kind in ("Int64", "String", "Bool"))


@pytest.fixture(scope="module")
def stock_messages():
    """BatchingParameters and MonitoringConfig, which tensorflow-serving-api leaves out.

    Declared with the names, numbers and types of TensorFlow Serving 2.20's session_bundle_config.proto and
    monitoring_config.proto, so that protobuf's own text parser judges the files as the server does.
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
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.serving.{name}"))()


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((CONFIG / "docker-compose.yaml").read_text())


@pytest.fixture(params=["gpu", "cpu"])
def server(compose, request):
    (server,) = [one for one in compose["services"].values() if one["profiles"] == [request.param]]
    return server


def mounts(server) -> dict[str, dict]:
    """Bind mounts by the path in the container, their sources as Compose resolves them by default."""
    bound = [volume for volume in server["volumes"] if isinstance(volume, dict)]
    return {
        volume["target"]: volume | {"source": (CONFIG / with_defaults(volume["source"])).resolve()} for volume in bound
    }


def with_defaults(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def flags(server) -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=", 1) for flag in server["command"])


def models() -> model_server_config_pb2.ModelServerConfig:
    text = (CONFIG / "models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@pytest.mark.parametrize("name", FILES)
def test_every_line_says_why(name) -> None:
    lines = [line.strip() for line in (CONFIG / name).read_text().splitlines()]
    silent = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if line and line not in "}}" and "#" not in line and not above.startswith("#")
    ]
    assert silent == []


def test_the_model_config_is_the_stock_server_s() -> None:
    (model,) = models().model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("demo", "/models/demo", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1
    assert not model.HasField("logging_config")


def test_the_embedded_server_serves_it(publish, connect, tmp_path) -> None:
    """A version where `build MODEL models/demo` puts it answers under the name that the file gives it."""
    publish(1).rename(tmp_path / "demo")
    config = tmp_path / "models.config"
    config.write_text((CONFIG / "models.config").read_text().replace('"/models/', f'"{tmp_path}/'))
    with EmbeddedServer(read_model_config(config)) as server:
        response = connect(server.port).predict("demo", images=np.ones([1, 4, 4, 3], np.uint8))
    assert list(response.outputs["sums"].float_val) == [49]


def test_the_batching_parameters_are_consistent(stock_messages) -> None:
    parameters = text_format.Parse((CONFIG / "batching.pbtxt").read_text(), stock_messages("BatchingParameters"))
    sizes = list(parameters.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == parameters.max_batch_size.value
    assert parameters.batch_timeout_micros.value > 0
    assert parameters.max_enqueued_batches.value >= parameters.num_batch_threads.value > 0
    assert not parameters.pad_variable_length_inputs


def test_a_number_without_its_wrapper_would_not_be_read(stock_messages) -> None:
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batch_size: 32", stock_messages("BatchingParameters"))


def test_enough_requests_are_let_in_to_fill_two_batches(stock_messages, server) -> None:
    parameters = text_format.Parse((CONFIG / "batching.pbtxt").read_text(), stock_messages("BatchingParameters"))
    assert int(flags(server)["grpc_max_threads"]) >= 2 * parameters.max_batch_size.value


def test_metrics_are_on(stock_messages) -> None:
    monitoring = text_format.Parse((CONFIG / "monitoring.pbtxt").read_text(), stock_messages("MonitoringConfig"))
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_each_profile_runs_its_pinned_image(compose) -> None:
    images = {profile: one["image"] for one in compose["services"].values() for profile in one["profiles"]}
    assert images == {"gpu": "tensorflow/serving:2.20.0-gpu", "cpu": "tensorflow/serving:2.20.0"}


def test_what_build_writes_is_mounted_read_only_where_the_model_config_looks(server) -> None:
    mount = mounts(server)["/models"]
    assert mount["source"] == CONFIG.parent / "models"
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}
    for model in models().model_config_list.config:
        assert Path(model.base_path).parent == Path("/models")


def test_every_file_that_a_flag_names_is_mounted_read_only(server) -> None:
    mount = mounts(server)["/config"]
    assert (mount["source"], mount["read_only"]) == (CONFIG, True)
    named = {flag: Path(value) for flag, value in flags(server).items() if flag.endswith("_file")}
    assert set(named) == {"model_config_file", "monitoring_config_file"}
    for file in named.values():
        assert (mount["source"] / file.relative_to("/config")).is_file()


def test_the_ports_that_the_flags_open_are_published_to_this_machine(server) -> None:
    opened = {flags(server)["port"], flags(server)["rest_api_port"]}
    assert opened == {"8500", "8501"}
    assert {with_defaults(port) for port in server["ports"]} == {f"127.0.0.1:{port}:{port}" for port in opened}


def test_only_the_gpu_profile_reserves_a_card(compose) -> None:
    reserved = {
        profile: one.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
        for one in compose["services"].values()
        for profile in one["profiles"]
    }
    assert reserved == {"gpu": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}], "cpu": None}


def test_named_volumes_are_declared(compose, server) -> None:
    named = {volume.split(":")[0] for volume in server["volumes"] if isinstance(volume, str)}
    assert named <= set(compose["volumes"])


def test_the_health_check_tells_an_open_port_from_a_closed_one(server, publish) -> None:
    """The check itself is run, on a port of this machine."""
    kind, *command = server["healthcheck"]["test"]
    assert kind == "CMD"
    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))]) as running:
        here = [part.replace("8500", str(running.port)) for part in command]
        assert subprocess.run(here, capture_output=True, check=False).returncode == 0
    assert subprocess.run(here, capture_output=True, check=False).returncode != 0
