"""`pargrad completion`: what a shell needs to complete the command's options, written from its parsers."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pargrad import commands
from pargrad.commands.options import POSITIONAL, hyphenated, make_subparser

HELP = "completion of commands and options for a shell"
EXAMPLES = """\
  eval "$(pargrad completion bash)"                                     in ~/.bashrc
  eval "$(pargrad completion zsh)"                                      in ~/.zshrc
  pargrad completion fish > ~/.config/fish/completions/pargrad.fish     once\
"""


@dataclass
class Options:
    """Print what a shell needs to complete pargrad's commands, options and their values.

    Args:
        shell: bash, zsh or fish
    """

    shell: Literal["bash", "zsh", "fish"] = field(default="bash", metadata=POSITIONAL)


class Command(NamedTuple):
    help: str
    flags: list[Flag]


class Flag(NamedTuple):
    """choices: the values it may take; empty where that is anything, a path for example. bare: it takes none."""

    name: str
    choices: tuple[str, ...]
    bare: bool
    help: str


def run(options: Options) -> int:
    text = {"bash": for_bash, "zsh": for_zsh, "fish": for_fish}[options.shell](known_commands())
    print(text, end="")
    return 0


def known_commands() -> dict[str, Command]:
    """The commands that there are, by name: the modules beside this one that have Options."""
    found = {}
    for each in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{each.name}")
        if hasattr(module, "Options"):
            actions = make_subparser(each.name, module)._actions
            found[each.name] = Command(module.HELP, [flag for action in actions for flag in flags_of(action)])
    return found


def flags_of(action: Any) -> list[Flag]:
    """The flags of one option of a parser, as they are written."""
    kinds = (getattr(action, "_typehint", None), *typing.get_args(getattr(action, "_typehint", None)))  # of X | None
    literals = [value for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
    bare = action.nargs == 0 or action.dest == "print_config"
    told = (action.help or "").partition(";")[0].partition(". ")[0]
    return [
        Flag(hyphenated(name), tuple(map(str, literals)), bare, told)
        for name in action.option_strings
        if name.startswith("--")
    ]


# ----- the shells -----


def for_bash(known: dict[str, Command]) -> str:
    flags = [f'    {name}) words="{" ".join(flag.name for flag in each.flags)}" ;;' for name, each in known.items()]
    values = {
        f'    {name}:{flag.name}) COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$word")); return ;;'
        for name, each in known.items()
        for flag in each.flags
        if flag.choices
    }
    return "\n".join((
        "_pargrad() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f"    COMPREPLY=($(compgen -W \"{' '.join(known)} --help --version\" -- \"$word\"))",
        "    return",
        "  fi",
        '  case "${COMP_WORDS[1]}:$before" in',
        *sorted(values),
        "  esac",
        '  case "${COMP_WORDS[1]}" in',
        *flags,
        "  esac",
        '  case "$word" in',
        '    -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;',
        '    *) COMPREPLY=($(compgen -f -- "$word")) ;;',
        "  esac",
        "}",
        "complete -o filenames -F _pargrad pargrad",
        "",
    ))  # fmt: skip


def for_zsh(known: dict[str, Command]) -> str:
    """zsh runs the completions of bash, once told to."""
    return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + for_bash(known)


def for_fish(known: dict[str, Command]) -> str:
    lines = []
    for name, each in known.items():
        lines.append(f"complete -c pargrad -n __fish_use_subcommand -a {name} -d {quoted(each.help)}")
        for flag in each.flags:
            takes = "" if flag.bare else f" -xa {quoted(' '.join(flag.choices))}" if flag.choices else " -r"
            lines.append(
                f"complete -c pargrad -n '__fish_seen_subcommand_from {name}' -l {flag.name[2:]}{takes} "
                f"-d {quoted(flag.help)}"
            )
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
