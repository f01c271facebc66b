"""The action, the workflow and the template, read and run without the platforms they are written for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github/actions/export/action.yml"
WORKFLOW = ROOT / ".github/workflows/export.yml"
GITLAB = ROOT / ".gitlab/export.gitlab-ci.yml"

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_VALUES = {"--precision": "float32", "--max-flips": "0.1", "--min-iou": "0.5"}
"""What a variable after these options may hold; any text will do after others."""


def read(file: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(file.read_text("utf-8"))


def composite_steps() -> list[dict[str, Any]]:
    """Return the action's steps."""
    return list(read(ACTION)["runs"]["steps"])


def scripts_of(file: Path) -> list[str]:
    """Return the shell scripts of an action, of a workflow's jobs, or of a template's: each one process's."""
    content = read(file)
    if file == ACTION:
        return [step["run"] for step in composite_steps() if "run" in step]
    if file == WORKFLOW:
        return [step["run"] for job in content["jobs"].values() for step in job["steps"] if "run" in step]
    return ["\n".join(job["script"]) for job in content.values()]


def commands_of(script: str) -> list[list[str]]:
    """Return the arguments of each call of gradcam-export in a script, with `x` or a number for what variables hold.

    The options that a script collects in an array beforehand belong to the calls that it is given to.
    """
    found = []
    for line in script.splitlines():
        for call in re.findall(r"gradcam-export ([a-z]+ [^|;]*?)(?:\)$|$|;| \|\|)", line):
            before = script[: script.index(line)]
            collected = re.findall(r"options\+?=\((--[^)]*)\)", before[max(0, before.rfind("options=(")) :])
            words = shlex.split(call.replace('"${options[@]}"', " ".join(collected) if "options[@]" in call else ""))
            named = [re.sub(r".*\$.*", "x", word) for word in words]
            found.append([_VALUES.get(before, word) for before, word in zip(["", *named], named, strict=False)])
    return found


class CompositeRun:
    """Runs the action's scripts in bash, as a runner does: expressions replaced, outputs and summary in files."""

    def __init__(self, folder: Path, commands: Path, **inputs: str) -> None:
        """Take the working directory, the folder of the commands, and the inputs with `_` for `-`."""
        self.folder, self._commands = folder, commands
        defaults = {name: str(one.get("default", "")) for name, one in read(ACTION)["inputs"].items()}
        self._inputs = defaults | {name.replace("_", "-"): value for name, value in inputs.items()}
        self._outputs: dict[str, dict[str, str]] = {}
        self.failed = ""
        self.log = ""

    def run(self, *, without: tuple[str, ...] = ("Set up Python", "Install the exporter")) -> CompositeRun:
        """Run the steps but for those; after one that fails, those alone that run always."""
        for step in composite_steps():
            if step["name"] not in without and (not self.failed or step.get("if") == "always()"):
                self._run(step)
        return self

    @property
    def outputs(self) -> dict[str, str]:
        """What the action gives to the job."""
        return {name: self._filled(one["value"]) for name, one in read(ACTION)["outputs"].items()}

    @property
    def summary(self) -> str:
        """What was written to the job's page."""
        return (self.folder / ".summary").read_text("utf-8")

    def _run(self, step: dict[str, Any]) -> None:
        files = {name: self.folder / f".{name}" for name in ("output", "summary")}
        files["output"].write_text("")
        files["summary"].touch()
        environment = {
            **os.environ,
            "PATH": f"{self._commands}{os.pathsep}{os.environ['PATH']}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            **{name: self._filled(value) for name, value in step.get("env", {}).items()},
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=environment, timeout=600
        )
        self.log += done.stdout + done.stderr
        if done.returncode and not self.failed:
            self.failed = step["name"]
        lines = files["output"].read_text("utf-8").splitlines()
        self._outputs[step.get("id", "")] = dict(line.split("=", 1) for line in lines)

    def _filled(self, text: str) -> str:
        return _EXPRESSION.sub(lambda match: self._value(match[1]), text)

    def _value(self, expression: str) -> str:
        """`a || b`, each an input or a step's output."""
        for one in expression.split("||"):
            kind, name, *rest = one.strip().split(".")
            value = self._inputs[name] if kind == "inputs" else self._outputs.get(name, {}).get(rest[-1], "")
            if value:
                return value
        return ""
