"""The files that run in other people's pipelines: what their schemas, our own parser and bash say of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import deployment
import pytest
import yaml
from gradcam_export.cli import _parser
from pipeline import ACTION, GITLAB, ROOT, WORKFLOW, commands_of, composite_steps, read, scripts_of

HOOKS = ROOT / ".pre-commit-hooks.yaml"
SCHEMAS = {ACTION: "vendor.github-actions", WORKFLOW: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}
SCRIPTS = pytest.mark.parametrize("file", [ACTION, WORKFLOW, GITLAB], ids=["action", "workflow", "gitlab"])


@pytest.mark.parametrize("file", SCHEMAS, ids=[schema.split(".")[1] for schema in SCHEMAS.values()])
def test_the_schema_of_its_platform_accepts_it(file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[file], str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@SCRIPTS
def test_bash_can_read_every_script(file):
    scripts = scripts_of(file)
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{script}"


@SCRIPTS
def test_no_script_has_what_somebody_else_wrote_put_into_it(file):
    """An input in `${{ }}` would run as code; in the environment it is text."""
    assert not [script for script in scripts_of(file) if "${{" in script]


@SCRIPTS
def test_every_command_is_one_that_the_exporter_takes(file):
    found = [command for script in scripts_of(file) for command in commands_of(script)]
    assert {command[0] for command in found} >= {"verify"}
    for command in found:
        _parser().parse_args(command)


def test_gitlab_runs_the_commands_of_the_action():
    def flags(file):
        found = {}
        for script in scripts_of(file):
            for command in commands_of(script):
                if "--server" not in command:
                    found.setdefault(command[0], set()).update(word for word in command if word.startswith("--"))
        return found

    assert flags(ACTION) == flags(GITLAB)
    assert set(flags(ACTION)) == {"build", "verify", "compare", "publish"}
    fetches = [script for file in (ACTION, GITLAB) for script in scripts_of(file) if "last_version" in script]
    assert len(fetches) == 2


def test_every_input_of_the_action_is_used_and_every_one_used_is_there():
    text = ACTION.read_text("utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", text.partition("\nruns:")[2]))
    assert used == set(read(ACTION)["inputs"])
    steps = {step["id"]: step["run"] for step in composite_steps() if "id" in step}
    for step, output in re.findall(r"steps\.(\w+)\.outputs\.(\w+)", text):
        assert f'"{output}=' in steps[step]


def test_nothing_is_published_before_everything_is_judged():
    names = [step["name"] for step in composite_steps()]
    assert names[-3:] == ["Compare with the last published version", "Publish", "Summarise"]
    assert [step["name"] for step in composite_steps() if "if" in step] == ["Set up Python", "Summarise"]


def test_the_workflow_gives_the_action_what_it_takes():
    jobs = read(WORKFLOW)["jobs"]
    (step,) = [step for step in jobs["export"]["steps"] if step.get("uses") == "./.github/actions/export"]
    inputs = read(ACTION)["inputs"]
    assert set(step["with"]) <= set(inputs)
    assert {name for name, one in inputs.items() if one.get("required")} <= set(step["with"])
    outputs = re.findall(r"steps\.export\.outputs\.(\w+)", WORKFLOW.read_text("utf-8"))
    assert set(outputs) <= set(read(ACTION)["outputs"])


def test_the_service_is_the_pinned_server_and_sees_what_the_tests_write():
    serve = read(WORKFLOW)["jobs"]["serve"]
    service = serve["services"]["serving"]
    assert service["image"] == deployment.IMAGE
    assert service["volumes"] == ["/tmp/served:/tmp/served"]
    test = serve["steps"][-1]
    assert test["env"] == {"MODEL_SERVER": "localhost:8500,localhost:8501"}
    words = shlex.split(test["run"])
    assert words[words.index("--basetemp") + 1].startswith("/tmp/served/")
    assert words[words.index("-m", 2) + 1] == "model_server and not soak"
    gitlab = read(GITLAB)[".gradcam-serve"]["services"]
    assert [one["name"] for one in gitlab] == [deployment.IMAGE]


def test_what_the_workflow_trains_is_what_it_exports():
    """The demo's classifier and scenes, by the names that the demo gives them."""
    export = read(WORKFLOW)["jobs"]["export"]
    assert "gradcam-export demo trained" in scripts_of(WORKFLOW)[0]
    (step,) = [step for step in export["steps"] if step.get("uses", "").startswith("./")]
    road = (ROOT / "export/gradcam_export/demo/road.py").read_text("utf-8")
    for value in (step["with"]["model"], step["with"]["images"]):
        assert f'"{value.removeprefix("trained/")}"' in road


def hook(name, *files, cwd, commands):
    """Run a hook as pre-commit does: its entry split into words, and the files after it."""
    (found,) = [one for one in yaml.safe_load(HOOKS.read_text("utf-8")) if one["id"] == name]
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    words = [*shlex.split(found["entry"]), *files]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})


@pytest.fixture
def commands(tmp_path):
    """A folder with a gradcam-export that tells what it was asked, and refuses what is called bad."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "gradcam-export"
    script.write_text('#!/bin/bash\necho "$*"\ncase "$2" in *bad*) exit 1;; esac\n')
    script.chmod(0o755)
    return folder


def test_the_hooks_are_what_pre_commit_takes():
    for found in yaml.safe_load(HOOKS.read_text("utf-8")):
        assert set(found) >= {"id", "name", "entry", "language", "files"}
        assert found["language"] == "python"
        assert (ROOT / found["additional_dependencies"][0] / "pyproject.toml").is_file()
        for command in commands_of(found["entry"]):
            _parser().parse_args(command)


@pytest.mark.parametrize(
    ("name", "taken", "left"),
    [
        ("gradcam-inspect", ["a.keras", "models/b c.h5", "x.hdf5"], ["a.keras.txt", "akeras", "weights.npz"]),
        (
            "gradcam-verify",
            ["models/flowers/3/saved_model.pb", "3/variables/variables.index", "m/12/assets.extra/manifest.json"],
            ["models/flowers/saved_model.pb", "v3/saved_model.pb", "3/readme.md", "models/3/src/variables.py"],
        ),
    ],
)
def test_the_hooks_take_these_files(name, taken, left):
    (found,) = [one for one in yaml.safe_load(HOOKS.read_text("utf-8")) if one["id"] == name]
    pattern = re.compile(found["files"])
    assert all(pattern.search(file) for file in taken)
    assert not any(pattern.search(file) for file in left)


def test_a_hook_asks_once_for_each_and_stops_at_the_first_that_fails(tmp_path, commands):
    done = hook("gradcam-inspect", "a b.keras", "c.keras", cwd=tmp_path, commands=commands)
    assert (done.returncode, done.stdout) == (0, "inspect a b.keras\ninspect c.keras\n")
    done = hook("gradcam-inspect", "a.keras", "bad.keras", "c.keras", cwd=tmp_path, commands=commands)
    assert (done.returncode, done.stdout) == (1, "inspect a.keras\ninspect bad.keras\n")
    files = ["m x/1/saved_model.pb", "m x/1/variables/variables.index", "m/2/assets.extra/manifest.json"]
    done = hook("gradcam-verify", *files, cwd=tmp_path, commands=commands)
    assert (done.returncode, done.stdout) == (0, "verify m x/1\nverify m/2\n")
    done = hook("gradcam-verify", "bad/1/assets/labels.txt", cwd=tmp_path, commands=commands)
    assert done.returncode == 1
