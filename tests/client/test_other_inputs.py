"""Models that take no pictures describe themselves, and are not sent any."""

import pytest
from colour_server import ColourModel, manifest
from gradcam_client.cli import main
from gradcam_client.errors import IncompatibleModel

WAVE = manifest(
    input={"name": "inputs", "shape": [1000, 12], "dtype": "float32", "resize": None, "preprocessing": "none"},
    explanation=manifest()["explanation"] | {"grid": [62]},
)
MIXED = manifest(more_inputs=[{"name": "age", "shape": [1], "dtype": "float32"}])
WHAT_THEY_TAKE = {
    r"'inputs' float32 \[B, 1000, 12\] and explains it on a grid \[62\]": WAVE,
    r"'images' uint8 \[B, 8, 12, 3\] and 'age' float32 \[B, 1\] and explains it on a grid \[2, 3\]": MIXED,
}


@pytest.fixture(params=WHAT_THEY_TAKE)
def takes(request, server):
    server.versions = {1: ColourModel(WHAT_THEY_TAKE[request.param])}
    return request.param


def test_they_describe_themselves(client, server, takes):
    described = client.describe()
    assert described.raw == WHAT_THEY_TAKE[takes]
    assert [one.state for one in client.status()] == ["AVAILABLE", "END"]


def test_they_are_sent_no_pictures(client, server, pictures, takes):
    for call in (client.explain, client.predict, client.top_k):
        for image in (pictures[0], pictures):
            with pytest.raises(IncompatibleModel, match=f"{takes}.* call the model with tensorflow-serving-api"):
                call(image)
    with pytest.raises(IncompatibleModel, match=takes):
        client.explain(pictures[0], method="gradcam++", label="red")
    assert set(server.signatures_asked()) == {"describe"}


def test_a_newer_version_that_takes_pictures_is_sent_them(client, server, pictures, takes):
    client.describe()
    server.versions = {2: ColourModel()}
    assert client.explain(pictures[0]).model_version == 2


@pytest.mark.parametrize("verb", [["explain"], ["explain", "--top-k"], ["predict"]])
def test_the_command_says_so_in_one_line(server, pictures, takes, tmp_path, capsys, verb):
    pictures[0].save(tmp_path / "a.png")
    page = ["--report", str(tmp_path / "r.html")] if verb[0] == "explain" else []
    code = main([*verb, str(tmp_path / "a.png"), *page, "--server", server.target, "--model", "colours"])
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (1, "", 1)
    assert "call the model with tensorflow-serving-api" in printed.err
    assert not (tmp_path / "r.html").exists()
    assert main(["describe", "--server", server.target, "--model", "colours"]) == 0
