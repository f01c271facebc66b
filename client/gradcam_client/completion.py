"""What lets a shell complete a command line, made from its parser: commands, options, and what they may be given."""

from __future__ import annotations

import argparse
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHELLS: Final = ("bash", "zsh", "fish")
_FILES: Final = ("FILE", "DIR", "PATH")
"""What a metavar that stands for files begins with."""


@dataclass(frozen=True, kw_only=True)
class _Argument:
    """An option, or a positional argument, which has no names."""

    names: tuple[str, ...]
    description: str
    value: str | None
    """Metavar of what it is given; `None` where it is given nothing."""
    choices: tuple[str, ...]
    repeated: bool

    @property
    def takes_files(self) -> bool:
        return self.value is not None and self.value.startswith(_FILES)


@dataclass(frozen=True, kw_only=True)
class _Command:
    name: str
    description: str
    arguments: tuple[_Argument, ...]

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(name for argument in self.arguments for name in argument.names)


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for `shell`, one of `SHELLS`.

    Args:
        parser: of the whole command, with a sub-parser for each of its commands.
        shell: which shell.
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser.prog, tuple(_commands(parser)))


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    for action in parser._actions:  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, verb in action.choices.items():
                yield _Command(name=name, description=told.get(name, ""), arguments=tuple(_arguments(verb)))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[_Argument]:
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        yield _Argument(
            names=tuple(action.option_strings),
            description=(action.help or "").replace("%(default)s", str(action.default)),
            value=None if action.nargs == 0 else metavar,
            choices=choices,
            repeated=isinstance(action, argparse._AppendAction),
        )


def _bash(program: str, commands: Sequence[_Command]) -> str:
    return _BASH.substitute(
        program=program,
        commands=" ".join(command.name for command in commands),
        values="\n".join(line for command in commands for line in _bash_values(program, command)),
        options="\n".join(f'    {command.name}) options="{" ".join(command.options)}" ;;' for command in commands),
        positional="\n".join(
            f"    {command.name}) {_bash_reply(program, argument)} ;;"
            for command in commands
            for argument in command.arguments
            if not argument.names
        ),
    )


_BASH: Final = string.Template("""\
# $program completion bash > ~/.local/share/bash-completion/completions/$program
_${program}_files() {
  # Names with spaces stay whole, and are quoted where they need it.
  local IFS=$$'\\n'
  compopt -o filenames 2> /dev/null
  COMPREPLY=($$(compgen -f -- "$${COMP_WORDS[COMP_CWORD]}"))
}
_$program() {
  local current="$${COMP_WORDS[COMP_CWORD]}" previous="$${COMP_WORDS[COMP_CWORD-1]}" command="$${COMP_WORDS[1]}"
  local options="--help --version"
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($$(compgen -W "$commands $$options" -- "$$current"))
    return
  fi
  case "$$command,$$previous" in
$values
  esac
  case "$$command" in
$options
  esac
  if [[ $$current == -* ]]; then
    COMPREPLY=($$(compgen -W "$$options" -- "$$current"))
    return
  fi
  case "$$command" in
$positional
  esac
}
complete -F _$program $program
""")


def _bash_values(program: str, command: _Command) -> Iterator[str]:
    for argument in command.arguments:
        if argument.value is not None and argument.names:
            before = "|".join(f"{command.name},{name}" for name in argument.names)
            yield f"    {before}) {_bash_reply(program, argument)} return ;;"


def _bash_reply(program: str, argument: _Argument) -> str:
    if argument.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$current"));'
    return f"_{program}_files;" if argument.takes_files else ":;"


def _zsh(program: str, commands: Sequence[_Command]) -> str:
    cases = []
    for command in commands:
        specs = " \\\n        ".join(_zsh_spec(argument) for argument in command.arguments)
        cases.append(f"    {command.name})\n      _arguments \\\n        {specs} ;;")
    told = (_quoted(f"{command.name}:{command.description}") for command in commands)
    return _ZSH.substitute(program=program, commands="\n    ".join(told), cases="\n".join(cases))


_ZSH: Final = string.Template("""\
#compdef $program
# $program completion zsh > "$${fpath[1]}/_$program"
_$program() {
  local -a commands
  commands=(
    $commands
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$$words[2]
  shift words
  ((CURRENT--))
  case $$command in
$cases
  esac
}
if [[ $$zsh_eval_context[-1] == loadautofunc ]]; then
  _$program "$$@"
else
  compdef _$program $program
fi
""")


def _zsh_spec(argument: _Argument) -> str:
    value = ""
    if argument.value is not None:
        action = f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.takes_files else " "
        value = f":{_zsh_text(argument.value)}:{action}"
    if not argument.names:
        return _quoted(f"*{value}")
    text = _zsh_text(argument.description)
    # The mark says that the option may be given again.
    again = "*" if argument.repeated else ""
    return " ".join(_quoted(f"{again}{name}[{text}]{value}") for name in argument.names)


def _zsh_text(text: str) -> str:
    return "".join(f"\\{character}" if character in "[]:\\" else character for character in text)


def _fish(program: str, commands: Sequence[_Command]) -> str:
    lines = [
        f"# {program} completion fish > ~/.config/fish/completions/{program}.fish",
        f"complete -c {program} -f",
    ]
    for command in commands:
        text = _quoted(command.description)
        lines.append(f"complete -c {program} -n __fish_use_subcommand -a {command.name} -d {text}")
        lines += [_fish_line(program, command.name, argument) for argument in command.arguments]
    return "\n".join([*lines, ""])


def _fish_line(program: str, command: str, argument: _Argument) -> str:
    words = [f"complete -c {program} -n '__fish_seen_subcommand_from {command}'"]
    words += [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in argument.names]
    if argument.choices:
        words.append(f"-x -a {_quoted(' '.join(argument.choices))}")
    elif argument.takes_files:
        words.append("-r -F" if argument.names else "-F")
    elif argument.value is not None:
        words.append("-x")
    return " ".join([*words, f"-d {_quoted(argument.description)}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
