"""What users have written down: names of the exporter, commands with their options, errors."""

import ast
from pathlib import Path

import gradcam_client.cli
import gradcam_export.cli
import pytest
from gradcam_export.methods import METHODS

CHECKOUT = Path(__file__).parents[2]
ROOT_ERRORS = {"export/gradcam_export": "GradcamExportError", "client/gradcam_client": "GradcamError"}

MODEL_OPTIONS = (
    "[--preprocessing MODE] [--image-size HxW] [--layer NAME] [--output NAME] "
    f"[--method {{{','.join(METHODS)}}}] [--top-k T] [--labels FILE] [--score {{logit,probability}}] "
    "[--factory-arg NAME=VALUE] [--no-safe-mode]"
)
SERVER_OPTIONS = (
    "[--server HOST:PORT] --model NAME [--version N | --label NAME] [--timeout S] [--tls] [--tls-ca FILE] "
    "[--tls-certificate FILE] [--tls-key FILE] [--token-file FILE] [--metadata KEY=VALUE] "
    "[--compression {gzip,deflate}]"
)
MANY_OPTIONS = f"[--json] [--concurrency N] {SERVER_OPTIONS}"
EXPORT_COMMANDS = {
    "build": f"{MODEL_OPTIONS} [--chunk N] [--weights {{variables,constants}}] "
    "[--precision {float32,bfloat16,float16}] [--batching {in-graph,server,none}] "
    "[--max-batch-size N] [--batch-timeout-micros N] [--batch-threads N] [--allowed-batch-sizes N,N,…] "
    "[--max-image-bytes N] [--max-image-pixels N] [--images DIR] [--sbom FILE] [--version N] MODEL BASE_PATH",
    "inspect": f"{MODEL_OPTIONS} [--json] MODEL",
    "publish": "[--version N] VERSION_DIR TARGET",
    "verify": "[--model MODEL] [--images DIR] [--labels FILE] [--server HOST:PORT] [--model-name NAME] [--max-bytes N] "
    "[--max-memory N] [--report FILE.json] [--markdown FILE] [--preprocessing MODE] [--image-size HxW] [--layer NAME] "
    "[--output NAME] [--factory-arg NAME=VALUE] [--no-safe-mode] VERSION_DIR",
    "compare": "--images DIR [--max-flips FRACTION] [--max-score-drift X] [--min-iou X] [--min-correlation X] "
    "[--max-shift X] [--per-class] [--batch-size N] [--report FILE.json] [--markdown FILE] [--html FILE] OLD NEW",
    "evaluate": f"--images DIR [--boxes FILE] [--masks DIR] [--method {{{','.join(METHODS)}}}] [--batch-size N] "
    "[--steps N] [--limit N] [--report FILE.json] [--markdown FILE] [--html FILE] VERSION_DIR",
    "serve": "[--model-name NAME] [--model-config-file FILE] [--model-config-file-poll-wait-seconds S] "
    "[--allow-version-labels-for-unavailable-models] [--host HOST] [--port PORT] [--rest-port PORT] "
    "[--ssl-config-file FILE] [--monitoring-config-file FILE] [BASE_PATH]",
    "demo": "[--model MODEL] [--images DIR] [--labels FILE] DIR",
}
CLIENT_COMMANDS = {
    "explain": f"{MANY_OPTIONS} [--class LABEL|INDEX] [--top-k] [--method NAME] [--out DIR] [--resume] "
    "[--report FILE.html] [--colormap NAME] [--alpha 0..1] [--polarity {positive,negative,both}] "
    "[--overlay-type {original,grayscale,mask_black,outlines,none}] [--clip-percent-upper 0..100] "
    "[--clip-percent-lower 0..100] [--threshold 0..1] [--level 0..1] [--strip] [--format {png,jpeg}] "
    "PATH [PATH ...]",
    "overlay": f"{MANY_OPTIONS} [--class LABEL|INDEX] --out DIR PATH [PATH ...]",
    "predict": f"{MANY_OPTIONS} PATH [PATH ...]",
    "describe": SERVER_OPTIONS,
    "status": SERVER_OPTIONS,
    "completion": "bash|zsh|fish",
}


def test_the_exporters_public_names_are_these():
    assert all(getattr(gradcam_export, name) is not None for name in gradcam_export.__all__)
    assert sorted(gradcam_export.__all__) == [
        "ExplainableClassifier",
        "ExplanationError",
        "ExportBest",
        "ExportOptions",
        "GradcamExportError",
        "Inspection",
        "LabelsError",
        "LayerNotFound",
        "LoadError",
        "NoFeatureMap",
        "OptionError",
        "PublishError",
        "PublishedVersion",
        "ServeError",
        "UnsupportedHead",
        "UnsupportedOperation",
        "VerificationError",
        "VersionError",
        "export_classifier",
        "inspect_classifier",
        "publish_version",
    ]
    with pytest.raises(AttributeError, match="module 'gradcam_export' has no attribute 'export_keras'"):
        gradcam_export.export_keras  # noqa: B018


@pytest.fixture
def usage(monkeypatch, capsys):
    """Return the usage line that a command shows."""
    monkeypatch.setenv("COLUMNS", "1000")

    def read(main, *command: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--help"])
        return capsys.readouterr().out.splitlines()[0]

    return read


@pytest.mark.parametrize("command", EXPORT_COMMANDS)
def test_the_exporters_commands_take_these_options(usage, command):
    expected = f"usage: gradcam-export {command} [-h] {EXPORT_COMMANDS[command]}"
    assert usage(gradcam_export.cli.main, command) == expected


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_the_clients_commands_take_these_options(usage, command):
    assert usage(gradcam_client.cli.main, command) == f"usage: gradcam {command} [-h] {CLIENT_COMMANDS[command]}"


@pytest.mark.parametrize(
    ("main", "commands"),
    [(gradcam_export.cli.main, EXPORT_COMMANDS), (gradcam_client.cli.main, CLIENT_COMMANDS)],
    ids=["gradcam-export", "gradcam"],
)
def test_there_are_no_other_commands(main, commands, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["no-such-command"])
    listed = capsys.readouterr().err.rpartition("(choose from ")[2].strip(")\n").replace("'", "")
    assert listed.split(", ") == list(commands)


@pytest.mark.parametrize("package", ROOT_ERRORS)
def test_every_error_is_raised_somewhere(package):
    raised = set()
    for path in (CHECKOUT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised.add(ast.unparse(node.exc.func))
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "errors":
                raised.add(node.attr)  # the client picks the error from a table, by the server's status
    errors = ast.parse((CHECKOUT / package / "errors.py").read_text()).body
    assert {node.name for node in errors if isinstance(node, ast.ClassDef)} - raised == {ROOT_ERRORS[package]}
