"""The Dockerfile that bakes a version into TensorFlow Serving, held against what Compose does for the same server."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from typing import NamedTuple

import deployment
import pytest
from deployment import CONFIG

ROOT = CONFIG.parent
TEXT = (CONFIG / "Dockerfile").read_text()
KINDS = [
    "ARG",
    "FROM",
    "ARG",
    "ARG",
    "COPY",
    "COPY",
    "ENV",
    "LABEL",
    "USER",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "CMD",
]


class Instruction(NamedTuple):
    kind: str
    value: str
    said: bool
    """Whether the line above says why."""


def instructions() -> list[Instruction]:
    """What Docker reads: comments left out, continued lines joined."""
    found, said, begun = [], False, ""
    for line in TEXT.splitlines():
        if not begun and (not line or line.startswith("#")):
            said = line.startswith("#")
            continue
        begun += line.removesuffix("\\")
        if not line.endswith("\\"):
            kind, value = begun.split(maxsplit=1)
            found.append(Instruction(kind, value, said))
            begun, said = "", False
    assert not begun
    return found


def values(kind: str) -> list[str]:
    return [one.value for one in instructions() if one.kind == kind]


@pytest.fixture
def server():
    """What Compose runs without a card."""
    return deployment.read_yaml("docker-compose.yaml")["services"]["serving-cpu"]


def test_every_instruction_is_one_and_says_why():
    assert [one.kind for one in instructions()] == KINDS
    assert [one for one in instructions() if not one.said] == []


def test_the_base_is_the_image_that_compose_pins(server):
    (base,) = values("FROM")
    (release,) = [value for value in values("ARG") if value.startswith("SERVING=")]
    assert base == "tensorflow/serving:${SERVING}"
    assert server["image"] == deployment.IMAGE == base.replace("${SERVING}", release.partition("=")[2])


def test_arguments_are_declared_before_they_are_used_and_none_is_unused():
    declared = set()
    for one in instructions():
        assert set(re.findall(r"\$\{(\w+)\}", one.value)) <= declared, one
        if one.kind == "FROM":
            declared.clear()  # what is declared above it is forgotten below
        if one.kind == "ARG":
            declared.add(one.value.partition("=")[0])
    assert declared == set(re.findall(r"\$\{(\w+)\}", TEXT.partition("FROM")[2])) - {"SERVING"}
    assert "$" not in re.sub(r"\$\{\w+\}", "", TEXT)


def test_the_version_lies_where_the_entry_point_looks():
    """tf_serving_entrypoint.sh serves ${MODEL_BASE_PATH}/${MODEL_NAME}, by default /models/model."""
    assert values("ENV") == ["MODEL_NAME=${MODEL}"]
    assert values("COPY")[1].split() == ["models/${MODEL}/${VERSION}", "/models/${MODEL}/${VERSION}"]


def test_the_health_check_is_that_of_compose(server):
    (check,) = values("HEALTHCHECK")
    options = dict(option.split("=") for option in re.findall(r"--(\S+)", check.partition("CMD")[0]))
    told = server["healthcheck"]
    wanted = {"interval", "timeout", "start_period", "retries"}
    assert options == {name.replace("_", "-"): str(told[name]) for name in wanted}
    assert ["CMD", *json.loads(check.partition("CMD")[2])] == told["test"]


def test_the_flags_are_those_of_compose_but_for_what_one_baked_model_does_not_need(server):
    (command,) = values("CMD")
    flags, wanted = deployment.flags(json.loads(command)), deployment.flags(server["command"])
    several = {"model_config_file", "model_config_file_poll_wait_seconds"}
    several |= {"allow_version_labels_for_unavailable_models"}
    by_entry_point = {"port", "rest_api_port"}
    assert flags == {name: wanted[name] for name in wanted.keys() - several - by_entry_point - {"ssl_config_file"}}
    assert values("EXPOSE") == [" ".join(wanted[name] for name in ("port", "rest_api_port"))]


def test_every_file_that_a_flag_names_is_copied_and_there():
    *sources, target = values("COPY")[0].split()
    (command,) = values("CMD")
    named = [value for flag, value in deployment.flags(json.loads(command)).items() if flag.endswith("_file")]
    assert sorted(named) == sorted(f"{target}{source.rpartition('/')[2]}" for source in sources)
    assert all((ROOT / source).is_file() for source in sources)


def test_the_server_is_nobody():
    (user,) = values("USER")
    assert all(int(number) >= 1000 for number in user.split(":"))


def test_what_is_copied_is_sent_and_nothing_else_is():
    lines = (CONFIG / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    def sent(path: str) -> bool:
        """The last rule that a path, or a folder above it, meets decides, as in Docker."""
        kept = True
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        for rule in rules:
            if any(fnmatch(part, rule.removeprefix("!")) for part in above):
                kept = rule.startswith("!")
        return kept

    for source in values("COPY")[0].split()[:-1]:
        assert sent(source)
    assert sent("models/flowers/1/saved_model.pb")
    for path in (".venv/bin/python", "export/pyproject.toml", "models/flowers/.unpublished-host-7-x/saved_model.pb"):
        assert not sent(path)
    assert not sent("serving_config/tls/server.key")
