"""What `train` trains: images, a table, or what a function of the user's own gives."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pargrad
from pargrad import nn, optim
from pargrad.data import as_data, epoch_order
from pargrad.data.mnist import DATA_SETS, load
from pargrad.data.recipe import Recipe, learn_recipe
from pargrad.data.tabular import SUFFIXES, near, read_table
from pargrad.models import MODELS, Scaled, ScaledSquaredError, table_mlp
from pargrad.nn import functional as F

EPOCHS, EPOCHS_OF_SUBSET, STEPS_OF_TABLE = 3, 10, 2000
BATCH_SIZE, LEAST_BATCH, BATCHES_OF_TABLE = 128, 8, 32
OF_IMAGES = ("model", "data_dir", "download")
OF_TABLES = ("target", "ignore", "missing", "task", "validation_fraction")
OF_OPTIMIZERS = ("optimizer", "lr", "weight_decay", "momentum")
GIVES = "(model, data), (model, data, validation), or (model, loss, optimizer, data), and validation after these"


class Task(NamedTuple):
    """A model and what it is trained on.

    name, source, network: ready for a sentence. optimizer: None where the options say which. validation: None without
    any; held_out: what that is called. recipe: how a table's rows became arrays.
    """

    name: str
    source: str
    network: str
    model: nn.Module
    loss: Any
    optimizer: optim.Optimizer | None
    train: Any
    validation: Any
    held_out: str
    epochs: int
    batch_size: int
    metrics: tuple[str, ...] = ()
    recipe: Recipe | None = None


def make_task(options: Any, defaults: Any) -> Task:
    """The task that the options of `train` name. defaults: the same with nothing given.

    The model's weights are those of options.seed.
    """
    what = options.data_set
    kinds: tuple[tuple[bool, Callable[[Any], Task], tuple[str, ...]], ...] = (
        (what in DATA_SETS, of_images, OF_TABLES),
        (what.lower().endswith(SUFFIXES), of_table, OF_IMAGES),
        (names_a_function(what), of_function, OF_IMAGES + OF_TABLES),
    )
    for fits, make, foreign in kinds:
        if fits:
            given = [name for name in foreign if getattr(options, name) != getattr(defaults, name)]
            if given:
                raise ValueError(f"--{given[0].replace('_', '-')} has no meaning for {what}: leave it out")
            pargrad.manual_seed(options.seed)
            return make(options)
    raise ValueError(
        f"got {what!r}, expected {', '.join(DATA_SETS)}, a table ({', '.join(SUFFIXES)}), or module:function"
        f"{near(what, DATA_SETS)}"
    )


def of_images(options: Any) -> Task:
    images = load(
        options.data_set, data_dir=options.data_dir, download=options.download, progress=options.progress != "off"
    )
    epochs = EPOCHS_OF_SUBSET if images.embedded else EPOCHS
    model = MODELS[options.model]()
    return Task(
        images.name, images.source, options.model, model, F.cross_entropy, None, images.train, images.test, "test",
        epochs, BATCH_SIZE,
    )  # fmt: skip


def of_table(options: Any) -> Task:
    """Rows are split by the seed, inputs standardized by the training rows; the network's width is the data's."""
    share = options.validation_fraction
    if not 0 < share < 1:
        raise ValueError(f"--validation-fraction {share}: expected a share of the rows, more than 0 and less than 1")
    table = read_table(options.data_set, options.target, names_in(options.ignore), options.missing)
    order = epoch_order(len(table), options.seed, 0)
    held = min(max(1, round(share * len(table))), len(table) - 1)
    rows, rest = np.sort(order[held:]), np.sort(order[:held])
    recipe = learn_recipe(table, rows, options.task, options.missing)
    x, y = recipe.inputs(table), recipe.targets(table)
    batch_size = min(max(LEAST_BATCH, len(rows) // BATCHES_OF_TABLE), BATCH_SIZE, len(rows))
    epochs = max(1, STEPS_OF_TABLE // -(-len(rows) // batch_size))
    return Task(
        Path(options.data_set).name,
        f"{options.data_set} ({len(rows):,} train, {len(rest):,} validation), {recipe.features} inputs, "
        f"{outputs_of(recipe)}",
        "mlp",
        network_of(recipe),
        loss_of(recipe),
        None,
        (x[rows], y[rows]),
        (x[rest], y[rest]),
        "validation",
        epochs,
        batch_size,
        () if recipe.classes else ("r2", "mean_absolute_error"),
        recipe,
    )


def outputs_of(recipe: Recipe) -> str:
    return f"{len(recipe.classes)} classes" if recipe.classes else f"amounts of {recipe.target}"


def network_of(recipe: Recipe) -> nn.Module:
    """The network for a table: class scores, or amounts in the target's own units."""
    if recipe.classes:
        return table_mlp(recipe.features, len(recipe.classes))
    return nn.Sequential(
        *table_mlp(recipe.features, len(recipe.target_mean)), Scaled(recipe.target_mean, recipe.target_std)
    )


def loss_of(recipe: Recipe) -> Any:
    return F.cross_entropy if recipe.classes else ScaledSquaredError(recipe.target_std)


def of_function(options: Any) -> Task:
    what = options.data_set
    given = call(what, own_function(what))
    parts = given if isinstance(given, tuple) else (given,)
    loss, optimizer = None, None
    if len(parts) in (4, 5):
        model, loss, optimizer, *data = parts
        said = [name for name in OF_OPTIMIZERS if getattr(options, name) not in (None, "AdamW")]
        if said:
            raise ValueError(f"--{said[0].replace('_', '-')}: {what} gives an optimizer of its own: set it there")
    elif len(parts) in (2, 3):
        model, *data = parts
    else:
        raise ValueError(f"{what} gave {described(given)}: expected {GIVES}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"{what} gave {described(given)}: expected a pargrad.nn.Module first: {GIVES}")
    try:
        train, validation = as_data(data[0]), as_data(data[1]) if len(data) == 2 else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: its data cannot be used: {error}") from error
    if loss is None:
        loss = likely_loss(train)
    held = "" if validation is None else f", {len(validation):,} validation"
    return Task(
        what, f"its module ({len(train):,} train{held})", type(model).__name__, model, loss, optimizer, train,
        validation, "validation", EPOCHS, BATCH_SIZE,
    )  # fmt: skip


def likely_loss(data: Any) -> Any:
    """cross_entropy of whole numbers, mse_loss of others, where the user says none."""
    target = data.batch(np.arange(min(1, len(data))), pargrad.Generator())[-1]
    return F.cross_entropy if target.dtype.kind in "iu" else F.mse_loss


# ----- a function of the user's own -----


def names_a_function(what: Any) -> bool:
    """Whether this names something to import. Such a name is taken from the command line only, never from a file."""
    return isinstance(what, str) and ":" in what and not what.lower().endswith(SUFFIXES)


def own_function(what: str) -> Callable[[], Any]:
    """The function that module:function names; modules of the current directory are found first."""
    name, _, attribute = what.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        with blamed_on(what):
            function = importlib.import_module(name)
            for part in attribute.split("."):
                function = getattr(function, part)
    finally:
        sys.path.remove(os.getcwd())
    if not callable(function):
        raise ValueError(f"{what} is {type(function).__name__}: expected a function that gives {GIVES}")
    return function


def call(what: str, function: Callable[[], Any]) -> Any:
    with blamed_on(what):
        return function()


@contextlib.contextmanager
def blamed_on(what: str) -> Iterator[None]:
    """An error of the user's own code as one message, with the line it came from."""
    from pargrad.parallel import PargradError

    try:
        yield
    except (PargradError, OSError):
        raise
    except Exception as error:
        places = [place for place in traceback.extract_tb(error.__traceback__) if is_own(place.filename)]
        at = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
        told = ValueError(f"{what}: {type(error).__name__}: {error}{at}")
        for note in getattr(error, "__notes__", ()):  # which shard of which step
            told.add_note(note)
        raise told from error


def is_own(path: str) -> bool:
    return not path.startswith((str(Path(pargrad.__file__).parent), sys.prefix, sys.base_prefix, "<"))


# ----- small -----


def names_in(listed: str | None) -> tuple[str, ...]:
    """Names that are separated by commas."""
    return tuple(name.strip() for name in (listed or "").split(",") if name.strip())


def described(given: Any) -> str:
    if isinstance(given, tuple):
        return f"({', '.join(type(part).__name__ for part in given)})"
    return type(given).__name__
