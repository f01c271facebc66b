"""Versions asked for by the labels that the server's configuration gives them."""

import json

import grpc
import pytest
from colour_server import ColourModel, Server, manifest
from gradcam_client import ModelNotFound, OptionError
from gradcam_client.cli import main


class LabelledServer(Server):
    """Answers label requests as TensorFlow Serving does: an unknown label is an INVALID_ARGUMENT."""

    def __init__(self) -> None:
        self.labels = {"stable": 1, "canary": 2}
        super().__init__()
        self.versions[2] = ColourModel()

    def _find(self, spec, context):
        if spec.HasField("version_label"):
            if spec.version_label not in self.labels:
                message = f"Unrecognized servable version label: {spec.version_label}"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
            spec.version.value = self.labels[spec.version_label]
        return super()._find(spec, context)

    def _status(self, request, context):
        # The stock server looks at the number alone.
        assert not request.model_spec.HasField("version_label")
        response = super()._status(request, context)
        if request.model_spec.HasField("version"):
            states = [s for s in response.model_version_status if s.version == request.model_spec.version.value]
            del response.model_version_status[:]
            response.model_version_status.extend(states)
        return response


@pytest.fixture
def server():
    running = LabelledServer()
    yield running
    running.stop()


@pytest.fixture
def ask(connect, server):
    """Open a client by the version or label it asks for."""
    opened = []

    def ask(**which):
        opened.append(connect(server.target, model="colours", **which))
        return opened[-1]

    yield ask
    for client in opened:
        client.close()


def test_a_label_is_asked_for_in_every_call(ask, pictures):
    for label, version in (("stable", 1), ("canary", 2)):
        client = ask(label=label)
        assert client.describe().version == version
        for answer in (client.explain(pictures[0]), client.predict(pictures[0]), client.top_k(pictures[0])[0]):
            assert answer.model_version == version


def test_a_label_that_moves_is_followed_at_the_next_call(ask, server, pictures):
    client = ask(label="stable")
    assert client.explain(pictures[0]).model_version == 1
    server.labels["stable"] = 2
    assert client.explain(pictures[0]).model_version == 2
    server.labels["stable"] = 1
    server.requests.clear()
    assert client.explain(pictures[0]).model_version == 1
    assert server.signatures_asked() == ["serving_default"]


def test_a_version_that_means_something_else_is_asked_anew(ask, server, pictures):
    server.versions[2] = ColourModel(manifest(labels=["rot", "grün", "blau"]))
    client = ask(label="stable")
    assert client.explain(pictures[0], label="blue").model_version == 1
    server.labels["stable"] = 2
    assert client.explain(pictures[0], label="blau").label == "blau"


def test_a_list_is_answered_by_the_version_of_each_call(ask, server, pictures):
    def move_after_the_first(response):
        if "heatmap" in response.outputs:
            server.labels["stable"] = 2
        return response

    server.tamper = move_after_the_first
    answers = ask(label="stable").explain(pictures)
    assert [answer.model_version for answer in answers] == [1] * 8 + [2] * 2


def test_the_state_of_a_label_is_that_of_its_version(ask, server):
    assert [(one.version, one.state) for one in ask(label="canary").status()] == [(2, "AVAILABLE")]
    assert [one.version for one in ask(version=1).status()] == [1]
    assert [one.version for one in ask().status()] == [2, 1, 0]


def test_a_label_that_nobody_gave_is_named(ask, server, pictures):
    client = ask(label="beta")
    for call in (client.describe, client.status, lambda: client.predict(pictures[0])):
        with pytest.raises(ModelNotFound, match=r"'colours' has no version label 'beta': the server's.*Unrecog") as no:
            call()
        assert (no.value.target, no.value.status) == (server.target, "INVALID_ARGUMENT")


def test_a_label_that_is_taken_away_is_named(ask, server, pictures):
    client = ask(label="canary")
    client.predict(pictures[0])
    del server.labels["canary"]
    with pytest.raises(ModelNotFound, match="model 'colours' has no version label 'canary'"):
        client.predict(pictures[0])


def test_a_label_of_a_version_that_is_not_loaded_is_not_found(ask, server, pictures):
    server.labels["canary"] = 7
    with pytest.raises(ModelNotFound, match=r"no such model or version is served \(NOT_FOUND"):
        ask(label="canary").predict(pictures[0])


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ({"label": "stable", "version": 1}, "version 1 and label 'stable' were both given: give one of them"),
        ({"label": "stable", "version": 0}, "version 0 and label 'stable' were both given"),
        ({"label": ""}, "label '': give one of the server's configuration"),
        ({"label": "caf\udce9"}, r"label 'caf\\udce9': is no text that can be sent"),
    ],
)
def test_labels_that_cannot_be_are_refused(connect, which, message):
    with pytest.raises(OptionError, match=message):
        connect("localhost:1", model="colours", **which)


def test_a_models_name_that_cannot_be_sent_is_refused(connect):
    with pytest.raises(OptionError, match=r"model 'caf\\udce9': is no text that can be sent"):
        connect("localhost:1", model="caf\udce9")


def test_every_command_asks_by_label(server, pictures, tmp_path, capsys):
    pictures[0].save(tmp_path / "p.png")

    def printed(*arguments):
        assert main([*arguments, "--server", server.target, "--model", "colours", "--label", "canary"]) == 0
        return capsys.readouterr().out

    for arguments in (["explain"], ["explain", "--top-k"], ["predict"]):
        lines = printed(*arguments, str(tmp_path / "p.png"), "--json").splitlines()
        assert {json.loads(line)["model_version"] for line in lines} == {2}
    assert json.loads(printed("describe"))["model_version"] == 2
    assert printed("status") == "2\tAVAILABLE\n"


def test_a_version_and_a_label_are_a_wrong_command_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--model", "m", "--version", "1", "--label", "canary"])
    assert "argument --label: not allowed with argument --version" in capsys.readouterr().err
