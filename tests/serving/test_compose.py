"""`docker-compose.yaml` fits its schema, the files beside it and what `build` writes.

Nothing here starts a container: the schema and the files are checked, and the health check is run on this machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import deployment
import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from deployment import CONFIG
from gradcam_export.server import EmbeddedServer, ServedModel


@pytest.fixture(scope="module")
def compose():
    return deployment.read_yaml("docker-compose.yaml")


@pytest.fixture(params=["gpu", "cpu"])
def server(compose, request):
    return compose["services"][f"serving-{request.param}"]


def mounts(service) -> dict[str, dict]:
    """Bind mounts by the path in the container, their sources as Compose resolves them by default."""
    bound = [volume for volume in service["volumes"] if isinstance(volume, dict)]
    return {
        volume["target"]: volume | {"source": (CONFIG / deployment.with_defaults(volume["source"])).resolve()}
        for volume in bound
    }


def test_it_is_a_compose_file(compose) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_the_schema_knows_a_misspelling(compose) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    wrong = compose | {"services": {"serving": {"image": "x", "comand": []}}}
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validators.validator_for(schema)(schema).validate(wrong)


def test_each_profile_runs_one_pinned_server_and_what_watches_it(compose) -> None:
    images = {
        profile: sorted(one["image"] for one in compose["services"].values() if profile in one["profiles"])
        for profile in ("gpu", "cpu")
    }
    for profile, image in {"gpu": f"{deployment.IMAGE}-gpu", "cpu": deployment.IMAGE}.items():
        assert len(images[profile]) == 3
        assert image in images[profile]
    assert not [image for found in images.values() for image in found if ":" not in image or "latest" in image]


def test_what_build_writes_is_mounted_read_only_where_the_model_config_looks(server) -> None:
    mount = mounts(server)["/models"]
    assert mount["source"] == CONFIG.parent / "models"
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}
    for model in deployment.models().values():
        assert Path(model.base_path).parent == Path("/models")


def test_every_file_that_a_flag_names_is_mounted_read_only(server) -> None:
    mount = mounts(server)["/config"]
    assert (mount["source"], mount["read_only"]) == (CONFIG, True)
    named = {flag: Path(value) for flag, value in deployment.flags(server["command"]).items() if flag.endswith("_file")}
    assert set(named) == {
        "model_config_file",
        "monitoring_config_file",
        "ssl_config_file",
        "tensorflow_session_config_file",
    }
    assert named.pop("ssl_config_file") == Path()  # no TLS by default
    for file in named.values():
        assert (mount["source"] / file.relative_to("/config")).is_file()


def test_labels_can_be_read_before_their_versions_are_loaded(server) -> None:
    """The stock server reads labels first, and would refuse to start."""
    assert deployment.flags(server["command"])["allow_version_labels_for_unavailable_models"] == "true"


def test_enough_requests_are_let_in_to_fill_two_batches(server) -> None:
    threads = int(deployment.flags(server["command"])["grpc_max_threads"])
    assert threads >= 2 * deployment.batching().max_batch_size.value


def test_the_ports_that_the_flags_open_are_published_to_this_machine(server) -> None:
    flags = deployment.flags(server["command"])
    opened = {flags["port"], flags["rest_api_port"]}
    assert opened == {"8500", "8501"}
    assert {deployment.with_defaults(port) for port in server["ports"]} == {
        f"127.0.0.1:{port}:{port}" for port in opened
    }


def test_what_watches_is_open_to_this_machine_alone(compose) -> None:
    published = [port for name in ("prometheus", "grafana") for port in compose["services"][name]["ports"]]
    assert published == ["127.0.0.1:9090:9090", "127.0.0.1:3000:3000"]


def test_only_the_gpu_profile_reserves_a_card(compose) -> None:
    reserved = {
        name: one.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
        for name, one in compose["services"].items()
    }
    assert reserved.pop("serving-gpu") == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert not any(reserved.values())


def test_what_is_mounted_by_a_short_line_is_there_or_declared(compose) -> None:
    for service in compose["services"].values():
        for volume in (volume for volume in service["volumes"] if isinstance(volume, str)):
            source = volume.split(":")[0]
            assert (CONFIG / source).is_dir() if source.startswith(".") else source in compose["volumes"]


def test_the_health_check_tells_an_open_port_from_a_closed_one(server, publish) -> None:
    """The check itself is run, on a port of this machine."""
    kind, *command = server["healthcheck"]["test"]
    assert kind == "CMD"
    with EmbeddedServer([ServedModel(name="toy", base_path=publish(1))]) as running:
        here = [part.replace("8500", str(running.port)) for part in command]
        assert subprocess.run(here, capture_output=True, check=False).returncode == 0
    assert subprocess.run(here, capture_output=True, check=False).returncode != 0
