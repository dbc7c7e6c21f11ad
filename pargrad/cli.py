"""The command `pargrad`: a subcommand for each module of `pargrad.commands`, its signals and its exit codes."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pargrad.commands import (
    bench,
    chaos,
    completion,
    doctor,
    plan,
    plot,
    predict,
    profile,
    report,
    runs,
    score,
    simulate,
    submit,
    train,
)
from pargrad.commands.inside_job import check_job
from pargrad.commands.options import parse
from pargrad.parallel.errors import PargradError
from pargrad.parallel.sampler import sampled

COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "score": score,
    "predict": predict,
    "runs": runs,
    "plot": plot,
    "report": report,
    "profile": profile,
    "submit": submit,
    "bench": bench,
    "doctor": doctor,
    "chaos": chaos,
    "completion": completion,
    "plan": plan,
    "simulate": simulate,
}
EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


class Terminated(BaseException):
    """SIGTERM, as an exception, so that everything open is closed on the way out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""

    def terminate(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # the way out is not interrupted
        raise Terminated

    command, options = parse(COMMANDS, sys.argv[1:] if arguments is None else arguments)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        check_job(options)
        with sampled("driver"):
            return command.run(options)
    except PargradError as error:
        return complain(error, error.exit_code)
    except (ValueError, OSError) as error:
        return complain(error, EXIT_USAGE)
    except KeyboardInterrupt:
        return complain(f"interrupted{then(command, options)}", EXIT_INTERRUPTED)
    except Terminated:
        return complain(f"terminated{then(command, options)}", EXIT_TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, before)


def then(command: ModuleType, options: Any) -> str:
    return f"; {command.how_to_go_on(options)}" if hasattr(command, "how_to_go_on") else ""


def complain(message: Any, code: int) -> int:
    notes = "".join(f"\n  {note}" for note in getattr(message, "__notes__", ()))
    print(f"pargrad: {message}{notes}", file=sys.stderr, flush=True)
    return code


def entry_point() -> None:
    warnings.formatwarning = told
    sys.exit(main())


def told(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning as a line; one that is not pargrad's own with the place it comes from."""
    own = filename.startswith(str(Path(__file__).parent))
    return f"pargrad: {message}\n" if own else f"{filename}:{lineno}: {category.__name__}: {message}\n"
