"""Short scripts to start from; README.md has them in order."""

import inspect
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXCERPT = str(Path(__file__).with_name("pride_and_prejudice.txt"))  # the first three chapters


def command(main: Callable[..., Any]) -> None:
    """Runs a script's main; each of its parameters is an option: `--data-dir DIR` is data_dir."""
    parser = ArgumentParser(description=inspect.getmodule(main).__doc__)
    for name, parameter in inspect.signature(main).parameters.items():
        parser.add_argument("--" + name.replace("_", "-"), default=parameter.default, type=number_or_word)
    main(**vars(parser.parse_args()))


def number_or_word(text: str) -> int | str:
    return int(text) if text.isdigit() else text
