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
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def commands() -> list[tuple[str, str]]:
    """Python snippets whole, shell commands line by line, without their remarks."""
    found = []
    for language, text in BLOCKS:
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


def wait_for_newest_version(base_path: Path, port: str) -> None:
    """A reader's next command comes after the server has seen the folder again."""
    newest = max(int(path.name) for path in base_path.iterdir())
    until = time.monotonic() + 60
    with Client(f"localhost:{port}", model="flowers") as client:
        while client.status()[0] != VersionStatus(version=newest, state="AVAILABLE"):
            assert time.monotonic() < until, client.status()
            time.sleep(0.1)


@pytest.mark.slow
def test_every_command_and_snippet_runs(folder):
    servers: list[subprocess.Popen] = []
    port = ""
    try:
        for language, command in commands():
            text = command.replace("localhost:8500", f"localhost:{port}")
            if "localhost" in text or text.startswith("gradcam "):
                wait_for_newest_version(folder / "models/flowers", port)
            if language == "python":
                run(sys.executable, "-c", text)
            elif command.startswith("gradcam-export serve"):
                server = subprocess.Popen(
                    shlex.split(text.replace("8500", "0")), stdout=subprocess.PIPE, text=True, env=environment()
                )
                servers.append(server)
                port = server.stdout.readline().strip().rpartition(":")[2]
                assert port.isdigit()
            elif command.startswith("gradcam "):
                where = [] if "--server" in text else ["--server", f"localhost:{port}"]
                run(*shlex.split(text), *where)
            elif command.startswith("gradcam-export "):
                run(*shlex.split(text))
            else:
                SETUP[command](command)
    finally:
        for server in servers:
            server.terminate()
            server.communicate()
    assert (folder / "overlays/rose_overlay.png").is_file()
    assert "flowers" in (folder / "report.html").read_text("utf-8")
    with Image.open("rose_cam.jpg") as overlay:
        assert overlay.size == (120, 90)
    exports = [text for _, text in commands() if "export_classifier(" in text or "build flowers.keras" in text]
    assert len(exports) >= 2
    built = {path.name for path in (folder / "models/flowers").iterdir()}
    assert built == {str(number) for number in range(1, len(exports) + 1)}


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
