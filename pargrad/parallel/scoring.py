"""Scoring: a data set is cut into chunks of fixed size, which workers take as they come; sums are added in order.

The chunks do not depend on the number of workers, so neither does the result. Every example is scored once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad import nn
from pargrad.data import Data
from pargrad.parallel.pool import Pool
from pargrad.parallel.progress import Progress
from pargrad.parallel.step import Chunk, ChunkScore

CHUNK = 512  # examples
METRICS = ("accuracy", "loss")


def check_metric(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"expected metric to be one of {', '.join(map(repr, METRICS))}, got {metric!r}")
    return metric


def results_in_order(pool: Pool, data: Data, predict: bool, title: str, progress: str) -> list[Any]:
    """Every chunk's result, in the order of the data, however they were done."""
    if not len(data):
        raise ValueError("the data set is empty: expected at least one example")
    starts = range(0, len(data), CHUNK)
    chunks = [Chunk(i, start, min(start + CHUNK, len(data)), predict) for i, start in enumerate(starts)]
    results: list[Any] = [None] * len(chunks)
    bar = Progress(progress, title, len(data))
    try:
        for number, result in pool.evaluate(data, chunks):
            results[number] = result
            bar.advance(chunks[number].stop - chunks[number].start)
    finally:
        bar.close()
    return results


def evaluate(pool: Pool, data: Data, progress: str = "off") -> dict[str, Any]:
    """{"loss", "accuracy" where the outputs are class scores, "count"} over a data set."""
    scores: list[ChunkScore] = results_in_order(pool, data, False, "scoring", progress)
    total = divisor = 0.0
    for score in scores:
        total, divisor = total + score.sum, divisor + score.divisor
    count = sum(score.examples for score in scores)
    out: dict[str, Any] = {"loss": total / divisor if divisor else float("nan")}
    if all(score.correct is not None for score in scores):
        out["accuracy"] = sum(score.correct or 0 for score in scores) / count
    return {**out, "count": count}


def pick_metric(results: dict[str, Any], metric: str) -> float:
    if check_metric(metric) not in results:
        raise ValueError(
            f"{metric} needs class scores of shape (examples, classes) and integer targets; this model and data have "
            f"{sorted(set(results) - {'count'})}"
        )
    return results[metric]


def predict(pool: Pool, data: Data, progress: str = "off") -> np.ndarray:
    """The model's outputs for a data set, in its order."""
    return np.concatenate(results_in_order(pool, data, True, "predicting", progress))


def score(
    model: nn.Module,
    data: Any,
    metric: str = "accuracy",
    *,
    num_workers: Any = "auto",
    loss: Any = nn.functional.cross_entropy,
    address: str = "local",
    start_timeout: float = 60.0,
    progress: str = "auto",
) -> float:
    """`Module.score`: "accuracy" or "loss" of a model over a data set or `(inputs, target)` arrays, as one float."""
    from pargrad.parallel.trainer import Trainer  # a trainer that has nothing to train

    check_metric(metric)
    with Trainer(
        model,
        loss,
        None,
        batch_size=CHUNK,
        num_workers=num_workers,
        address=address,
        start_timeout=start_timeout,
        progress=progress,
    ) as trainer:
        return trainer.score(data, metric)
