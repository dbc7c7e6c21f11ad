"""`pargrad chaos`: kills workers of a run at random, and shows that its result is that of an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pargrad
from pargrad import optim
from pargrad.commands.options import POSITIONAL
from pargrad.commands.tasks import call, names_a_function, own_function
from pargrad.data.mnist import load
from pargrad.models import MODELS
from pargrad.nn import functional as F

HELP = "kill workers at random, and compare the result with an undisturbed run's"
EXAMPLES = """\
  pargrad chaos                                 784-128-64-10 on the embedded MNIST subset, for a minute
  pargrad chaos my_model:make --seconds 20      your own: make() gives (model, loss, optimizer, data)\
"""
EXIT_DIFFERENT = 1


@dataclass
class Options:
    """Kill workers of a run at random, and compare its result with that of an undisturbed run.

    Args:
        what: mnist; or module:function, which gives (model, loss, optimizer, data), the same each time it is called
        seconds: how long the workers are killed
        every: seconds between two kills, on average
        num_workers: Ray actors of one core each; auto: the free cores, and at least 2
        shards: pieces of a batch, a power of two
        batch_size: examples of one optimizer step
        seed: of the weights, the order of the examples, and the moments of the kills
        address: local starts a Ray of its own; auto or HOST:PORT joins one
    """

    what: str = field(default="mnist", metadata={**POSITIONAL, "command_line_only": names_a_function})
    seconds: float = 60.0
    every: float = 2.0
    num_workers: int | Literal["auto"] = "auto"
    shards: int = 8
    batch_size: int = 128
    seed: int = 0
    address: str = "local"


def run(options: Options) -> int:
    from pargrad.parallel import Trainer
    from pargrad.parallel.chaos import chaos

    if options.num_workers == 0:
        raise ValueError("--num-workers 0 is this process alone, and there would be nobody to kill: write 1 or more")
    for name in ("seconds", "every"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name} {getattr(options, name)}: expected more than 0")
    parts = parts_of(options.what)

    def make(**more: Any) -> tuple[Trainer, Any]:
        pargrad.manual_seed(options.seed)
        model, loss, optimizer, data = parts()
        trainer = Trainer(
            model, loss, optimizer, batch_size=options.batch_size, shards=options.shards, seed=options.seed,
            num_workers=options.num_workers, address=options.address, progress="off", **more,
        )  # fmt: skip
        return trainer, data

    outcome = chaos(make, options.seconds, options.every, options.seed, tell)
    tell(f"undisturbed state sha256 {outcome.undisturbed}")
    tell(f"disturbed state sha256   {outcome.disturbed}")
    same = outcome.undisturbed == outcome.disturbed
    tell("they are the same" if same else "THEY ARE NOT THE SAME")
    return 0 if same else EXIT_DIFFERENT


def parts_of(what: str) -> Callable[[], tuple]:
    """The function that gives model, loss, optimizer and data."""
    if what == "mnist":
        images = load("mnist", progress=False)
        return lambda: mnist(images.train)
    if not names_a_function(what):
        raise ValueError(f"expected mnist or module:function, got {what!r}: write my_model:make, in my_model.py")
    function = own_function(what)

    def parts() -> tuple:
        given = call(what, function)
        if not isinstance(given, tuple) or len(given) != 4:
            raise ValueError(f"{what} gave {type(given).__name__}: expected (model, loss, optimizer, data)")
        return given

    return parts


def mnist(data: Any) -> tuple:
    model = MODELS["mlp"]()
    return model, F.cross_entropy, optim.AdamW(model.parameters()), data


def tell(line: str) -> None:
    print(line, flush=True)
