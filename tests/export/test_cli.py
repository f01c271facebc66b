"""The command `gradcam-export`: data on stdout, messages on stderr, one line for every error of ours."""

import json
import os
import signal
import subprocess
import sys

import keras
import pytest
from classifiers import FAMILIES, photographs
from gradcam_export.cli import main
from gradcam_export.savedmodel.session import LoadedVersion


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.keras"
    FAMILIES["nested"].model().save(path)
    return path


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gradcam_export.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_build_publishes_and_prints_the_version(network, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    code = main(["build", str(network), str(tmp_path / "models/insects"), "--labels", str(tmp_path / "labels.txt")])
    captured = capsys.readouterr()
    assert code == 0
    assert captured.out == f"{tmp_path}/models/insects/1\n"
    steps = [line.split("  ")[0] for line in captured.err.splitlines()]
    assert steps[:-1] == [
        *("load", "trace", "choose", "explain", "fold", "assemble", "write", "warm up", "verify", "publish")
    ]
    assert steps[-1] == "explains base/features (16×20) with gradcam"
    assert (tmp_path / "models/insects/1/assets/labels.txt").read_text() == "ant\nbee\ncat\ndog\neel\n"


def test_build_takes_methods_and_what_belongs_to_them(network, tmp_path, capsys):
    methods = ["--method", "layercam", "--method", "ablationcam", "--batching", "none", "--max-image-bytes", "0"]
    code = main(["build", str(network), str(tmp_path / "m"), *methods, "--top-k", "2", "--chunk", "7"])
    assert code == 0
    assert capsys.readouterr().err.splitlines()[-1] == "explains base/features (16×20) with layercam, ablationcam"
    facts = json.loads((tmp_path / "m/1/assets.extra/manifest.json").read_text())["explanation"]
    assert (facts["method"], facts["methods"], facts["top_k"]) == ("layercam", ["layercam", "ablationcam"], 2)
    with LoadedVersion.load(tmp_path / "m/1") as version:
        answer = version.run("top_k", {"images": photographs(1)})
        assert answer["heatmap"].shape == (1, 2, 16, 20)
        assert "explain_ablationcam" in version.signatures


def test_inspect_answers_in_json(network, capsys):
    assert main(["inspect", str(network), "--json", "--method", "scorecam", "--top-k", "9"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layer"], facts["grid"], facts["classes"]) == ("base/features", [16, 20], 5)
    assert facts["methods"] == ["scorecam"]
    assert facts["signatures"]["top_k"].endswith("heatmap [B,5,16,20]")


def test_inspect_takes_an_output_and_labels(tmp_path, capsys):
    images = keras.Input((8, 9, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(images))
    model = keras.Model(images, [keras.layers.Dense(2, name="colour")(x), keras.layers.Dense(3, name="shape")(x)])
    model.save(tmp_path / "two.keras")
    (tmp_path / "labels.txt").write_text("round\nlong\nflat\n")
    arguments = ["inspect", str(tmp_path / "two.keras"), "--labels", str(tmp_path / "labels.txt")]
    assert main(arguments) == 1
    assert "say which to explain with --output: colour, shape." in capsys.readouterr().err
    assert main([*arguments, "--output", "shape"]) == 0
    captured = capsys.readouterr()
    assert "output         3 classes, linear" in captured.out
    assert "no labels" not in captured.out
    assert main([*arguments, "--output", "colour"]) == 1
    assert "error: labels: 3 labels ('round' … 'flat') for a classifier of 2 classes." in capsys.readouterr().err


def test_inspect_shows_candidates_the_choice_and_why(network, capsys):
    assert main(["inspect", str(network)]) == 0
    page = capsys.readouterr().out
    assert "output         5 classes, softmax" in page
    assert "  base/stem_relu      " in page
    assert "→ base/features" in page
    assert "16×20    24 channels" in page
    assert "because        the last feature map that every path" in page
    assert main(["inspect", str(network), "--layer", "stem_relu"]) == 0
    assert "chosen         base/stem_relu (16×20)\nbecause        asked for by name" in capsys.readouterr().out


def test_an_application_is_inspected_without_internet(capsys):
    arguments = ["inspect", "keras.applications:MobileNetV2", "--factory-arg", "weights=none"]
    assert main([*arguments, "--factory-arg", "input_shape=(96, 96, 3)", "--factory-arg", "alpha=0.35"]) == 0
    assert "input          images uint8 [B,96,96,3]\npreprocessing  tf\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "missing.keras", "m"], "error: missing.keras: no such file.\n"),
        (["inspect", "keras.applications:Nothing"], "error: keras.applications:Nothing: module"),
        (["build", "missing.keras", "m", "--top-k", "0"], "error: top_k must be a number from 1 up; got 0.\n"),
        (["build", "missing.keras", "m", "--labels", "no.txt"], "error: no.txt: cannot be read as a file of labels"),
        (["inspect", "missing.keras", "--method", "cam", "--method", "cam"], "error: method must name one CAM method"),
        (["serve"], "error: serve needs either BASE_PATH or --model-config-file FILE.\n"),
        (["serve", "no/such/models", "--port", "0"], "error: "),
    ],
)
def test_errors_are_one_line_and_exit_1(arguments, message, capsys):
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith(message.rstrip("\n"))


def test_a_layer_that_does_not_exist_publishes_nothing(network, tmp_path, capsys):
    assert main(["build", str(network), str(tmp_path / "m"), "--layer", "base/featres"]) == 1
    assert "called no layer named 'base/featres'. Close names: base/features" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "m.keras", "m", "--image-size", "large"], "'large' is not HxW, like 224x224"),
        (["build", "m.keras", "m", "--factory-arg", "weights"], "'weights' is not NAME=VALUE, like weights=none"),
        (["build", "m.keras", "m", "--weights", "frozen"], "invalid choice: 'frozen'"),
        (["build", "m.keras", "m", "--method", "smoothgrad"], "invalid choice: 'smoothgrad'"),
    ],
)
def test_wrong_arguments_are_refused_with_an_example(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_a_real_process_says_no_more_than_it_must(network, tmp_path):
    done = command("build", network, tmp_path / "m", "--layer", "nowhere")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.stderr.splitlines()[-1].endswith("called no layer named 'nowhere'. Close names: scores.")


def test_a_terminated_build_cleans_up(network, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "gradcam_export.cli", "build", str(network), str(tmp_path / "m")],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.startswith("write"):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert list((tmp_path / "m").iterdir()) == []


def test_help_does_not_wait_for_tensorflow():
    code = "import sys, gradcam_export.cli; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_unknown_attribute_of_the_package_is_an_attribute_error():
    import gradcam_export

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gradcam_export.nothing
