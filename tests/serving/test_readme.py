"""Every command and snippet of the README runs, in its order, in one folder, against a real server."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from gradcam_client import Client, VersionStatus
from gradcam_export import cli
from gradcam_export.server import read_model_config
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def commands() -> list[tuple[str, str]]:
    """Python snippets whole, shell commands line by line, without their remarks."""
    found = []
    for language, text in BLOCKS:
        # Tested elsewhere: in the environment of Apache Beam, with the action and the Dockerfile, by the wire's names.
        if language in ("console", "go", "text", "yaml") or "apache_beam" in text:
            continue
        if language == "protobuf":
            found.append((language, text))
            continue
        lines = [text] if language == "python" else [line.partition("  #")[0].strip() for line in text.splitlines()]
        found += [(language, line) for line in lines if line]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a reader has: a classifier of three flowers, labels, photographs."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.save("flowers.keras")
    Path("labels.txt").write_text("daisy\nrose\ntulip\n")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    Path("photos").mkdir()
    for path in ("rose.jpg", "photos/1.jpg", "photos/2.png"):
        picture.save(path)
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def step(name: str, *arguments: str) -> None:
    """Run the exporter in this process, which has TensorFlow loaded: a fresh one is tested with the command."""
    if name == "gradcam-export":
        assert cli.main(list(arguments)) == 0, shlex.join(arguments)
    else:
        run(name, *arguments)


def snippet(text: str) -> None:
    if "gradcam_export" in text:
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        run(sys.executable, "-c", text)


class Reader:
    """Does what the README says, in its order, with each server on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen] = []
        self.ports: dict[str, str] = {}
        self.labels: list[dict[str, int]] = []

    def do(self, language: str, command: str) -> None:
        """One command, or one snippet whole."""
        if not self.labels and ("localhost" in command or command.startswith("gradcam ")):
            self.wait_for_newest_version()
        text = command
        for number, port in self.ports.items():
            text = text.replace(f"localhost:{number}", f"localhost:{port}")
        if language == "protobuf":
            self.write_configuration(text)
        elif language == "python":
            snippet(text)
        elif command.startswith("gradcam-export serve"):
            self.serve(command)
        elif command.startswith("gradcam "):
            where = (
                [] if "--server" in text or "completion" in text else ["--server", f"localhost:{self.ports['8500']}"]
            )
            run(*shlex.split(text), *where)
        elif command.startswith(("gradcam-export ", "sed ")):
            step(*shlex.split(text))
        elif " curl " in command:
            run("bash", "-o", "pipefail", "-c", text)
        else:
            SETUP[command](command)
        if command.startswith(("gradcam-export serve --model-config-file", "sed ")):
            self.labels.append(self.wait_for_labels())

    def serve(self, command: str) -> None:
        text = re.sub(r"-port \d+", "-port 0", command)
        server = subprocess.Popen(shlex.split(text), stdout=subprocess.PIPE, text=True, env=environment())
        self.servers.append(server)
        for number in re.findall(r"-port (\d+)", command):
            self.ports[number] = re.search(r":(\d+)(/v1/models)?$", server.stdout.readline().strip())[1]

    def write_configuration(self, text: str) -> None:
        """The file that its first line names, with the reader's models."""
        Path(text.splitlines()[0].removeprefix("# ")).write_text(text.replace('"/models', f'"{self.folder}/models'))

    def wait_for_newest_version(self) -> None:
        """The next command comes after the server has seen the folder again."""
        newest = max(int(path.name) for path in (self.folder / "models/flowers").iterdir())
        until = time.monotonic() + 60
        with Client(f"localhost:{self.ports['8500']}", model="flowers") as client:
            while client.status()[0] != VersionStatus(version=newest, state="AVAILABLE"):
                assert time.monotonic() < until, client.status()
                time.sleep(0.1)

    def wait_for_labels(self) -> dict[str, int]:
        """The next command comes after the server has read its configuration: the version that each label has."""
        (model,) = read_model_config(Path("models.config"))
        until = time.monotonic() + 60
        for label, number in model.labels.items():
            with Client(f"localhost:{self.ports['8500']}", model=model.name, label=label) as client:
                while client.describe().version != number:
                    assert time.monotonic() < until, (label, number, client.describe().version)
                    time.sleep(0.1)
        return model.labels


@pytest.mark.slow
def test_every_command_and_snippet_runs(folder):
    reader = Reader(folder)
    try:
        for language, command in commands():
            reader.do(language, command)
    finally:
        for server in reader.servers:
            server.terminate()
            server.communicate()
    assert (folder / "overlays/rose_overlay.png").is_file()
    assert "flowers" in (folder / "report.html").read_text("utf-8")
    for picture in ("rose_cam.jpg", "rose_curl.jpg"):
        with Image.open(picture) as overlay:
            assert (overlay.format, overlay.size) == ("JPEG", (120, 90))
    exports = [text for _, text in commands() if "export_classifier(" in text or "build flowers.keras" in text]
    assert len(exports) >= 2
    assert reader.labels == [{"stable": stable, "canary": 2} for stable in (1, 2, 1)]
    built = {path.name for path in (folder / "models/flowers").iterdir()}
    assert built == {str(number) for number in range(1, len(exports) + 1)}
    assert (folder / "production/flowers/1/saved_model.pb").is_file()


def dry_run_make(command: str) -> None:
    """A test cannot run the tests: that make knows the target and its steps is what can be shown."""
    assert run("make", "--directory", str(ROOT), "--dry-run", *command.split()[1:])


def dry_run_install(command: str) -> None:
    """That pip takes the folder for a distribution; that it installs and works is tested with the packaging."""
    target = ROOT / command.split()[-1]
    run(sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", str(target))


def check_compose(command: str) -> None:
    """The file is there and has the profile; what else it says is tested with the serving configuration."""
    _, _, _, file, _, profile, _ = shlex.split(command)
    assert f"profiles: [{profile}]" in (ROOT / file).read_text("utf-8")


SETUP = {
    "make demo": dry_run_make,
    "make test": dry_run_make,
    "pip install ./export": dry_run_install,
    "pip install ./client": dry_run_install,
    "docker compose --file serving_config/docker-compose.yaml --profile gpu up": check_compose,
}


def test_the_two_commands_stand_first():
    language, first = BLOCKS[0]
    assert language == "bash"
    assert [line.split("  ")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    assert README.index("```bash") < 40


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https://)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
    headings = {re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in README.splitlines()}
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        assert anchor in headings


def test_the_options_documented_are_the_options_there_are():
    from gradcam_export.cli import _parser

    build = next(iter(_parser()._subparsers._group_actions)).choices["build"]
    flags = {flag for action in build._actions for flag in action.option_strings} - {"-h", "--help"}
    assert {flag.split()[0] for flag in re.findall(r"^\| `(--[^`]+)`", README, flags=re.MULTILINE)} == flags
