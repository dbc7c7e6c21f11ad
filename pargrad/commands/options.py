"""From a dataclass to the flags of a subcommand: jsonargparse's parser, with hyphens, help and nearest spellings."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import itertools
import re
import sys
import typing
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

import pargrad

POSITIONAL = {"positional": True}  # metadata of a field that is given without its name
DESCRIPTION = "Data-parallel training on CPUs, with the same bits for any number of workers."
EXAMPLES = """\
examples:
  pargrad train mnist                                          the embedded subset, on all cores
  pargrad train table.csv --target price --run-dir runs/first  a table; the run is kept
  pargrad score runs/first                                     on the rows that were held out
  pargrad predict runs/first new.csv --out predicted.csv       other rows, without the column price
  pargrad train my_model:make --num-workers 2                  what make() in my_model.py gives
  pargrad train --help                                         all of its options, with more examples\
"""
REST = {"rest": True}  # of one that takes what stands behind `--`


class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Examples keep their lines, and Python's types are left out: the explanations say what may be written."""

    def _get_help_string(self, action: Any) -> str:
        text = super()._get_help_string(action)
        if action.default is None:
            text = text.replace("default: %(default)s", "")
        return text.replace("type: %(type)s, ", "").replace("type: %(type)s", "").replace(" ()", "").replace(", )", ")")


class Parser(ArgumentParser):
    """jsonargparse's, with flags spelled with hyphens, and errors in our words.

    hints, explained: of a subcommand's parser, the types and the meanings of its fields.
    """

    hints: dict[str, Any]
    explained: dict[str, str]

    def parse_args(self, args: Any = None, *rest: Any, **named: Any) -> Any:
        return super().parse_args(
            [underscored(arg) for arg in (sys.argv[1:] if args is None else args)], *rest, **named
        )

    def format_help(self, formatter: Any = None) -> str:
        return hyphenated(super().format_help(formatter))

    def error(self, message: str, ex: Any = None) -> typing.NoReturn:
        """Ends the command with one message, which names what was given and what may be."""
        parser = getattr(ex, "subcommand_parser", None) or self
        if missing := re.search(r"arguments are required: (\w+)\.(\w+)", message):
            parser = self.commands()[missing[1]]
        name = parser.prog.replace(" [options]", "")
        self.exit(2, f"{name}: {hyphenated(parser.in_our_words(message))}\n{name} --help says what there is\n")

    def in_our_words(self, message: str) -> str:
        """What jsonargparse says, without its keys and Python's types."""
        if unknown := re.search(r"unrecognized arguments: (--\w+)", message):
            return message + nearest(unknown[1], self.flags())
        if command := re.search(r"invalid choice: '(.*?)'", message):
            return f"there is no command {command[1]!r}, only {', '.join(self.commands())}" + nearest(
                command[1], self.commands()
            )
        if message.startswith('expected "command"'):
            return f"expected a command, one of {', '.join(self.commands())}, as in pargrad train mnist"
        if missing := re.search(r"arguments are required: \w+\.(\w+)", message):
            return f"expected {missing[1]}: {self.explained[missing[1]]}\n{self.epilog}"
        if wrong := re.search(r'Parser key "(\w+)":.*value: (.*)$', message, re.DOTALL):
            name, value = wrong.groups()
            *kinds, last = kinds_of(self.hints[name])
            expected = f"{', '.join(kinds)} or {last}" if kinds else last
            return f"--{name} {value}: expected {expected}" + nearest(value, [*kinds, last])
        return message

    def commands(self) -> dict[str, Any]:
        """The parsers of the subcommands."""
        subcommands = getattr(self, "_subcommands_action", None)
        return dict(subcommands.choices) if subcommands else {}

    def flags(self) -> list[str]:
        """Every option of this parser and of its subcommands."""
        parsers = [self, *self.commands().values()]
        return [flag for parser in parsers for action in parser._actions for flag in action.option_strings]


def nearest(given: str, names: Iterable[str]) -> str:
    """The end of a message: the name that may have been meant."""
    near = difflib.get_close_matches(given, list(names), 1)
    return f". Did you mean {near[0]}?" if near else ""


def kinds_of(hint: Any) -> list[str]:
    """What may be written for a field of that type, in words."""
    if typing.get_origin(hint) is typing.Literal:
        return [str(value) for value in typing.get_args(hint)]
    kinds = [kind for each in typing.get_args(hint) for kind in kinds_of(each)]
    words = {int: "a whole number", float: "a number", str: "a text", type(None): ""}
    return [kind for kind in kinds or [words.get(hint, str(hint))] if kind]


def underscored(argument: str) -> str:
    """jsonargparse knows options by the names of their fields: --num-workers is --num_workers."""
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value if flag.startswith("--") else argument


def hyphenated(text: str) -> str:
    return re.sub(r"--[a-z]+(_[a-z]+)+", lambda flag: flag.group().replace("_", "-"), text)


def make_parser(commands: dict[str, ModuleType]) -> Parser:
    """The parser of `pargrad`, with a subcommand for each module."""
    parser = Parser(
        prog="pargrad", description=DESCRIPTION, epilog=EXAMPLES, version=pargrad.__version__, formatter_class=Formatter
    )
    subcommands = parser.add_subcommands(required=True, dest="command")
    for name, module in commands.items():
        subcommands.add_subcommand(name, make_subparser(name, module), help=module.HELP)
    return parser


def make_subparser(name: str, module: ModuleType) -> Parser:
    described = (module.Options.__doc__ or "").partition("\n")[0]
    parser = Parser(
        prog=f"pargrad {name}", description=described, epilog=f"examples:\n{module.EXAMPLES}", formatter_class=Formatter
    )
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML or JSON file of options")
    hints = parser.hints = typing.get_type_hints(module.Options)
    explained = parser.explained = explanations(module.Options)
    for field in dataclasses.fields(module.Options):
        if "rest" in field.metadata:
            parser.description = f"{parser.description}\n\n-- {field.name}: {explained[field.name]}"
            continue
        settings: dict[str, Any] = {"help": explained[field.name]}
        required = field.default is dataclasses.MISSING
        if not required:
            settings["default"] = field.default
        if hints[field.name] is bool:
            settings["action"] = "store_true"
        else:
            settings["type"] = hints[field.name]
        if "positional" in field.metadata:
            nargs: dict[str, Any] = {} if required else {"nargs": "?"}
            if typing.get_origin(hints[field.name]) is list:
                (settings["type"],), nargs = typing.get_args(hints[field.name]), {"nargs": "+"}
            if not required:  # else argparse would put the default over what a file says
                settings["help"] += f" (default: {field.default})"
                settings["default"] = SUPPRESS
            parser.add_argument(field.name, **settings, **nargs)
        else:
            parser.add_argument(f"--{field.name}", **settings, **({"required": True} if required else {}))
    return parser


def explanations(options: type) -> dict[str, str]:
    """What the docstring says of each field, under "Args:"."""
    _, _, listed = inspect.cleandoc(options.__doc__ or "").partition("Args:\n")
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {6,}.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def parse(commands: dict[str, ModuleType], arguments: Sequence[str]) -> tuple[ModuleType, Any]:
    """The subcommand's module, and its Options filled in."""
    before, rest = cut_at_dashes(arguments)
    asked = bool(before) and before[0] in commands
    # A parser takes some milliseconds to make, and a start waits for each.
    parser = make_parser({before[0]: commands[before[0]]} if asked else commands)
    if asked:
        for path in values_of("--config", before):
            if (wrong := wrong_in_config(path, commands[before[0]])) is not None:
                parser.error(f"--config {path}: {wrong}")
    parsed = parser.parse_args(before)
    module = commands[parsed.command]
    fields = {field.name: field for field in dataclasses.fields(module.Options)}
    values = {name: value for name, value in vars(parsed[parsed.command]).items() if name in fields}
    takes_rest = [name for name, field in fields.items() if "rest" in field.metadata]
    if rest is not None and not takes_rest:
        parser.error(f"pargrad {parsed.command} takes nothing behind --, got {' '.join(rest)}")
    for name, field in fields.items():
        names_code = field.metadata.get("command_line_only", lambda value: False)
        flag = "" if "positional" in field.metadata else f"--{name.replace('_', '-')}"
        given = before if not flag else values_of(flag, before)
        if names_code(values.get(name)) and values[name] not in given:
            parser.error(
                f"{values[name]!r} names something to import, which is never taken from a file: write "
                f"pargrad {parsed.command} {f'... {flag} ' * bool(flag)}{values[name]} on the command line"
                f"{', and --config behind it' * (not flag)}"
            )
    return module, module.Options(**values, **{name: tuple(rest or ()) for name in takes_rest})


def values_of(flag: str, arguments: list[str]) -> list[str]:
    """What is given to a flag, as `--flag value` or `--flag=value`."""
    behind = [value for name, value in itertools.pairwise(arguments) if name == flag]
    return behind + [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{flag}=")]


def wrong_in_config(path: str, module: ModuleType) -> str | None:
    """Why a file cannot be one of options; None where it can, as far as can be told without their types."""
    import yaml

    try:
        held = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"
    except yaml.YAMLError as error:
        return f"it is no YAML: {' '.join(str(error).split())}"
    names = [field.name for field in dataclasses.fields(module.Options)]
    if not isinstance(held, dict):
        return f"expected lines such as {names[-1]}: value, got {type(held).__name__}"
    for name in held:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            return f"there is no option {name}{f', did you mean {near[0]}?' if near else f': {names}'}"
    return None


def cut_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before `--` and what behind it; None where there is no `--`."""
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, None
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def as_yaml(options: Any, **changed: Any) -> str:
    """Options as the text of a file that --config takes."""
    import yaml

    return yaml.safe_dump({**dataclasses.asdict(options), **changed}, sort_keys=False)
