"""Shells complete the command: asked of the shells themselves, where they are installed."""

import os
import shutil
import subprocess

import pytest
from gradcam_client.cli import main
from gradcam_client.cli_arguments import build_parser
from gradcam_client.completion import SHELLS
from gradcam_client.overlay import COLORMAPS

COMMANDS = ["explain", "overlay", "predict", "describe", "status", "completion"]


@pytest.fixture
def script(capsys, tmp_path):
    """Write the script for a shell, and return its path."""

    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return write


def shell_or_skip(shell):
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.fixture
def bash(script, tmp_path):
    """Ask bash what may stand in place of the last word, in a folder with two files."""
    shell = shell_or_skip("bash")
    path = script("bash")
    (tmp_path / "a b.jpg").touch()
    (tmp_path / "a.pem").touch()

    def ask(*words):
        lines = (
            f'source {path}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _gradcam; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        command = [shell, "--norc", "-c", lines, "bash", "gradcam", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split("\n")[:-1]

    return ask


@pytest.fixture
def fish(script, tmp_path):
    shell = shell_or_skip("fish")
    path = script("fish")
    # Nobody's own settings.
    env = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}

    def ask(line):
        command = [shell, "-c", f"source {path}; complete -C '{line}'"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        return [found.split("\t")[0] for found in done.stdout.splitlines()]

    return ask


def test_bash_completes_commands_options_and_values(bash):
    assert bash("") == [*COMMANDS, "--help", "--version"]
    assert bash("de") == ["describe"]
    assert bash("explain", "--colormap", "") == list(COLORMAPS)
    assert bash("explain", "--model", "m", "--clip") == ["--clip-percent-upper", "--clip-percent-lower"]
    assert "--out" in bash("overlay", "--")
    assert "--out" not in bash("predict", "--")
    assert bash("completion", "") == list(SHELLS)


def test_bash_completes_files_with_spaces(bash):
    assert sorted(bash("explain", "a")) == ["a b.jpg", "a.pem"]
    assert bash("status", "--tls-ca", "a.") == ["a.pem"]
    assert bash("status", "--model", "a") == [""]
    assert bash("status", "a") == [""]


def test_fish_completes_commands_options_and_values(fish):
    assert sorted(fish("gradcam ")) == sorted(COMMANDS)
    assert fish("gradcam explain --colormap ") == sorted(COLORMAPS)
    assert fish("gradcam explain x --clip-percent-u") == ["--clip-percent-upper"]
    assert fish("gradcam predict --out") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_reads_its_script(script, shell):
    subprocess.run([shell_or_skip(shell), "-n", script(shell)], check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_holds_every_option_of_every_command(script, shell):
    text = script(shell).read_text()
    (verbs,) = (action for action in build_parser()._actions if action.dest == "command")
    assert list(verbs.choices) == COMMANDS
    for command, parser in verbs.choices.items():
        (lines,) = {
            "bash": lambda command=command: [
                line for line in text.splitlines() if line.startswith(f"    {command}) options")
            ],
            "zsh": lambda command=command: [text.split(f"\n    {command})\n")[1].split(";;")[0]],
            "fish": lambda command=command: [
                "\n".join(line for line in text.splitlines() if f"from {command}'" in line)
            ],
        }[shell]()
        for name in (name for action in parser._actions for name in action.option_strings if name != "-h"):
            assert (f"-l {name[2:]} " if shell == "fish" else name) in lines


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
