"""`--model-config-file` means here what it means to the stock server."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradcam_export.errors import ServeError
from gradcam_export.server import EmbeddedServer, read_model_config

FOUND = {3, 5, 8, 13}


def config(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(text)
    return path


def one(body: str, tmp_path: Path) -> Path:
    return config(f'model_config_list {{ config {{ name: "m" {body} }} }}', tmp_path)


def test_models_and_labels_are_read(tmp_path) -> None:
    text = """
        model_config_list {
          config { name: "flowers" base_path: "/models/flowers" model_platform: "tensorflow" }
          config {
            name: "digits" base_path: "/models/digits" model_type: TENSORFLOW
            version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 5 }
          }
        }"""
    flowers, digits = read_model_config(config(text, tmp_path))
    assert (flowers.name, flowers.base_path, flowers.labels) == ("flowers", Path("/models/flowers"), {})
    assert (digits.name, digits.base_path) == ("digits", Path("/models/digits"))
    assert digits.labels == {"stable": 3, "canary": 5}


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", {13}),
        ("model_version_policy { latest {} }", {13}),
        ("model_version_policy { latest { num_versions: 2 } }", {8, 13}),
        ("model_version_policy { all {} }", FOUND),
        ("model_version_policy { specific { versions: 5 versions: 3 versions: 99 } }", {3, 5}),
    ],
)
def test_the_policy_says_which_versions_are_served(tmp_path, policy, served) -> None:
    (model,) = read_model_config(one(f'base_path: "/m" model_platform: "tensorflow" {policy}', tmp_path))
    assert model.policy(FOUND) == served


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ('base_path: "m" model_platform: "tensorflow"', "model 'm' needs an absolute base_path, not 'm'"),
        ('base_path: "/m"', "model 'm' has model_platform ''; 'tensorflow' is served"),
        ('base_path: "/m" model_platform: "other"', "model 'm' has model_platform 'other'"),
        ('base_path: "/m" model_platform: "tensorflow" logging_config {}', "No request-logger-creator provided"),
    ],
)
def test_what_the_stock_server_refuses_is_refused(tmp_path, body, match) -> None:
    with pytest.raises(ServeError, match=match):
        read_model_config(one(body, tmp_path))


def test_a_model_needs_a_name(tmp_path) -> None:
    with pytest.raises(ServeError, match="the model of '/m' has no name"):
        read_model_config(config('model_config_list { config { base_path: "/m" } }', tmp_path))


def test_a_name_may_be_given_once(tmp_path) -> None:
    model = 'config { name: "m" base_path: "/m" model_platform: "tensorflow" }'
    models = read_model_config(config(f"model_config_list {{ {model} {model} }}", tmp_path))
    with pytest.raises(ServeError, match="Illegal to list model m multiple times"):
        EmbeddedServer(models)


@pytest.mark.parametrize("text", ["", "model_config_list {}", "custom_model_config {}"])
def test_a_file_without_models_is_refused(tmp_path, text) -> None:
    with pytest.raises(ServeError, match="lists no model"):
        read_model_config(config(text, tmp_path))


def test_a_file_in_another_language_is_refused(tmp_path) -> None:
    with pytest.raises(ServeError, match=r"models.config is not a readable ModelServerConfig: 1:1"):
        read_model_config(config("{'models': []}", tmp_path))


def test_a_file_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(ServeError, match=r"absent is not a readable ModelServerConfig: .*No such file"):
        read_model_config(tmp_path / "absent")


def test_a_file_of_bytes_is_refused(tmp_path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ServeError, match="is not a readable ModelServerConfig"):
        read_model_config(tmp_path / "bytes")


def test_the_models_of_a_file_are_served(tmp_path, publish, connect) -> None:
    base_path = publish(1)
    publish(2)
    models = "".join(
        f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" '
        f"model_version_policy {{ specific {{ versions: {number} }} }} }}"
        for name, number in (("old", 1), ("new", 2))
    )
    with EmbeddedServer(read_model_config(config(f"model_config_list {{ {models} }}", tmp_path))) as server:
        stub = connect(server.port)
        for name, number in (("old", 1), ("new", 2)):
            assert stub.predict(name, "describe", key=[b"labels"]).model_spec.version.value == number
