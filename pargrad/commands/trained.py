"""What `score` and `predict` share: a trained model, read back from a run directory, a checkpoint or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pargrad
from pargrad.commands.origins import Origin, origin_of

NAMED = 3  # parameters of a message


class Trained(NamedTuple):
    """A model with the parameters of a checkpoint, `origin.model`. source: ready for a sentence; step: None for a file
    of weights."""

    origin: Origin
    source: str
    step: int | None


def read_trained(options: Any) -> Trained:
    """What `options.trained` names: a run directory, a checkpoint, or a file of `pargrad.save` or `torch.save`.

    The model is that of `options.model`, or the run's. options.best: of a run directory, the checkpoint after which
    the loss on the validation set was the lowest.
    """
    where = Path(options.trained)
    if not where.exists():
        raise ValueError(f"{where}: there is no such file or directory")
    if options.best and not (where / "checkpoints").is_dir():
        raise ValueError(f"--best is of a run directory, and {where} is none")
    origin = origin_of(where, run_of(where), options)
    step, source, state = read_state_dict(where, origin.model, options.best)
    check_state(source, state, origin)
    origin.model.load_state_dict(state)
    return Trained(origin, source, step)


def check_state(source: str, state: Any, origin: Origin) -> None:
    """Refuses what is no state_dict, and one of another model, with the names and shapes that differ."""
    if not isinstance(state, dict) or not all(isinstance(each, pargrad.Tensor) for each in state.values()):
        raise ValueError(f"{source} holds {type(state).__name__}: expected tensors by name, as a state_dict has them")
    held, needed = (
        {name: tuple(each.shape) for name, each in some.items()} for some in (state, origin.model.state_dict())
    )
    more = [f"{name} {shape}" for name, shape in sorted(held.items()) if needed.get(name) != shape]
    less = [f"{name} {shape}" for name, shape in needed.items() if held.get(name) != shape]
    if more or less:
        raise ValueError(
            f"{source} is of another model than {origin.network}: it has {listed(more)} where that has {listed(less)}"
        )


def listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "") or "nothing"


def run_of(where: Path) -> Path | None:
    """The run directory that this is, or lies in."""
    if (where / "checkpoints").is_dir():
        return where
    whole = where.absolute()
    return next((each.parent for each in (whole, *whole.parents) if each.name == "checkpoints"), None)


def read_state_dict(where: Path, model: Any, best: bool) -> tuple[int | None, str, Any]:
    """(step, source, state_dict) of a run directory, a checkpoint or a file."""
    from pargrad.parallel import checkpoints
    from pargrad.parallel.errors import CheckpointError
    from pargrad.parallel.progress import say
    from pargrad.parallel.step import make_layout

    if where.is_file():
        try:
            return None, str(where), pargrad.load(str(where))
        except RuntimeError as error:
            raise ValueError(str(error).removeprefix("load: ")) from error
    largest = 4 * sum(p.array.nbytes for p in model.parameters())  # with what optimizers keep of them
    folder = where / "checkpoints" if (where / "checkpoints").is_dir() else where
    try:
        if checkpoints.checkpoints_in(folder):
            found = checkpoints.newest(folder, largest, say)
            if best and found.state.get("best"):
                found = checkpoints.read_checkpoint(
                    folder / checkpoints.step_name(found.state["best"]["step"]), largest
                )
        elif folder.name == "checkpoints":
            raise CheckpointError(f"{where} has no checkpoint yet: nothing in it has been trained that could be asked")
        else:
            found = checkpoints.read_checkpoint(where, largest)
    except checkpoints.Unusable as error:
        raise CheckpointError(f"{where} is no checkpoint that can be used: {error}") from error
    arrays = checkpoints.model_of(found, make_layout(model, None, 1, None))
    state = {name: pargrad.tensor(arrays[name]) for name in found.model}
    for name, first in checkpoints.tied_names(model).items():
        if first in state:
            state.setdefault(name, state[first])
    return found.state["step"], str(found.path), state
