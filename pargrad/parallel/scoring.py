"""Scoring: a data set is cut into chunks of fixed size, which workers take as they come; sums are added in order.

The chunks do not depend on the number of workers, so neither does the result. Every example is scored once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pargrad import nn
from pargrad.data import Data
from pargrad.metrics import Metric, make_metric
from pargrad.parallel.pool import Pool
from pargrad.parallel.progress import Progress
from pargrad.parallel.step import Chunk, ChunkScore

CHUNK = 512  # examples
RESERVED = ("loss", "count")  # names in the results of every evaluation


def metrics_by_name(metrics: Any) -> dict[str, Metric]:
    """The metrics that a trainer is given, names or Metrics, by their names."""
    if isinstance(metrics, str | Metric):
        raise TypeError(f"expected metrics to be a tuple of them, got {metrics!r}: write metrics=({metrics!r},)")
    out: dict[str, Metric] = {}
    for metric in map(make_metric, metrics):
        if metric.name in (*out, *RESERVED):
            raise ValueError(f"there are two metrics named {metric.name!r}: leave one out, or give it another name")
        out[metric.name] = metric
    return out


def name_of(metric: Any, known: dict[str, Metric]) -> str:
    """The name of the metric that `score` is asked for: "loss", one of the trainer's, or one that all know by name."""
    if isinstance(metric, str):
        return metric if metric in ("loss", *known) else make_metric(metric, ("loss", *known)).name
    name = make_metric(metric).name
    if known.get(name) is not metric:
        raise ValueError(
            f"a metric of your own reaches the workers when they start: write Trainer(..., metrics=({name},)), and "
            f"score(data, metric={name!r})"
        )
    return name


def results_in_order(
    pool: Pool, data: Data, predict: bool, title: str, progress: str, metrics: tuple[str, ...] = ()
) -> list[Any]:
    """Every chunk's result, in the order of the data, however they were done."""
    if not len(data):
        raise ValueError("the data set is empty: expected at least one example")
    starts = range(0, len(data), CHUNK)
    chunks = [Chunk(i, start, min(start + CHUNK, len(data)), predict, metrics) for i, start in enumerate(starts)]
    results: list[Any] = [None] * len(chunks)
    bar = Progress(progress, title, len(data))
    try:
        for number, result in pool.evaluate(data, chunks):
            results[number] = result
            bar.advance(chunks[number].stop - chunks[number].start)
    finally:
        bar.close()
    return results


def evaluate(pool: Pool, data: Data, progress: str = "off", metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    """{"loss", "accuracy" where the outputs are class scores, the metrics of these names, "count"} over a data set."""
    scores: list[ChunkScore] = results_in_order(pool, data, False, "scoring", progress, metrics)
    total = divisor = 0.0
    for score in scores:
        total, divisor = total + score.sum, divisor + score.divisor
    out: dict[str, Any] = {"loss": total / divisor if divisor else float("nan")}
    for name in scores[0].states:
        states = [score.states[name] for score in scores if name in score.states]
        if len(states) == len(scores):  # accuracy is left out where it has no meaning in one of the chunks
            metric = pool.replica.work.metric(name)
            out[name] = metric.result(*functools.reduce(metric.merge, states))
    return {**out, "count": sum(score.examples for score in scores)}


def as_float(value: Any, metric: str) -> float:
    if np.ndim(value):
        raise ValueError(
            f"{metric} is an array of shape {np.shape(value)} and no single score: give it to the trainer, "
            f"Trainer(..., metrics=({metric!r},)), and read evaluate(data)[{metric!r}]"
        )
    return float(value)


def predict(pool: Pool, data: Data, progress: str = "off") -> np.ndarray:
    """The model's outputs for a data set, in its order."""
    return np.concatenate(results_in_order(pool, data, True, "predicting", progress))


def score(
    model: nn.Module,
    data: Any,
    metric: Any = "accuracy",
    *,
    num_workers: Any = "auto",
    loss: Any = nn.functional.cross_entropy,
    address: str = "local",
    start_timeout: float = 60.0,
    progress: str = "auto",
) -> float:
    """`Module.score`: a metric of a model over a data set or `(inputs, target)` arrays, as one float.

    metric: "loss", a name of `pargrad.metrics.METRICS`, or a Metric. What it says has the same bits for every number of
    workers. ValueError for an empty data set, and for a metric that is an array, which `Trainer.evaluate` gives.

    >>> model = nn.Linear(2, 2)
    >>> _ = model.load_state_dict({"weight": pg.eye(2), "bias": pg.zeros(2)})
    >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 0])
    >>> model.score((x, y), num_workers=0)
    0.5
    """
    from pargrad.parallel.trainer import Trainer  # a trainer that has nothing to train

    metrics = {} if metric == "loss" else metrics_by_name((metric,))
    with Trainer(
        model,
        loss,
        None,
        batch_size=CHUNK,
        num_workers=num_workers,
        address=address,
        start_timeout=start_timeout,
        progress=progress,
        metrics=tuple(metrics.values()),
    ) as trainer:
        return trainer.score(data, *metrics or ["loss"])
