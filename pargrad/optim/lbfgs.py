"""L-BFGS: a quasi-Newton method that remembers the last steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pargrad.modes import enable_grad, no_grad
from pargrad.nn.module import as_array
from pargrad.optim.optimizer import Optimizer, in_elements
from pargrad.tensor import Tensor

DECREASE, CURVATURE = 1e-4, 0.9  # of the strong Wolfe conditions
SHORTEST = 1e-9  # a bracket that moves no element by more is not searched
CURVED = 1e-10  # gradient change along a step below which the step is not remembered
ARRAYS = ("d", "prev_flat_grad")
LISTS = ("old_dirs", "old_stps")


class LBFGS(Optimizer):
    """L-BFGS (Nocedal 1980; Liu and Nocedal 1989), number for number as torch's, which goes by Schmidt's minFunc.

    `step(closure)` makes up to max_iter iterations, each along the inverse Hessian's estimate from the last
    history_size steps times the gradient, and calls closure, which clears the gradients, computes the loss and its
    gradients and returns it, up to max_eval times (None: 1.25 * max_iter). It ends early where no element of the
    gradient is above tolerance_grad, or loss and parameters move by less than tolerance_change.

    lr: the length of an iteration's step, or where line_search_fn is "strong_wolfe" the first one tried. One group
    of parameters only. Not in the data-parallel trainer, which computes one gradient a step.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.LBFGS.html
    """

    unit = "closure"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        })  # fmt: skip

    def add_param_group(self, group: dict[str, Any]) -> None:
        if self.param_groups:
            raise ValueError("LBFGS: expected one group of parameters, whose steps belong together, got another one")
        super().add_param_group(group)

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        name = options["line_search_fn"]
        self.expect(name in (None, "strong_wolfe"), "line_search_fn 'strong_wolfe' or None", repr(name))

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ()  # it has no arrays for each parameter: all of it is the first one's

    # ----- one step -----

    def take_step(self, closure: Callable[[], Any] | None) -> Any:
        """Minimizes what closure computes, and returns its value at the beginning."""
        if closure is None:
            raise TypeError(
                "LBFGS.step: expected a closure that clears the gradients, computes the loss and returns it"
            )
        with no_grad(), np.errstate(all="ignore"):  # as torch's numbers, which divide by 0 in silence
            return self.minimize(closure)

    def minimize(self, closure: Callable[[], Any]) -> Any:
        """The iterations of one step; gives the first loss."""
        group = self.param_groups[0]
        lr, max_iter, tolerance = group["lr"], group["max_iter"], group["tolerance_change"]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        evaluated = state["func_evals"]

        def evaluate() -> Any:
            state["func_evals"] += 1
            with enable_grad():
                return closure()

        first = evaluate()
        loss, gradient = float(first), self.flat_gradient()
        if np.abs(gradient).max() <= group["tolerance_grad"]:
            return first
        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            direction = next_direction(state, gradient, group["history_size"])
            before, state["prev_loss"], state["prev_flat_grad"], state["d"] = loss, loss, gradient, direction
            state["t"] = t = min(1.0, 1.0 / np.abs(gradient).sum()) * lr if state["n_iter"] == 1 else lr
            slope = gradient @ direction
            if slope > -tolerance:
                break
            if group["line_search_fn"] is not None:
                left = group["max_eval"] - (state["func_evals"] - evaluated)
                start = Point(0.0, loss, gradient, slope)
                t, loss, gradient, _ = self.line_search(evaluate, start, direction, t, left)
                state["t"] = t
                self.move(t, direction)
            else:
                self.move(t, direction)
                if iteration != max_iter:
                    loss, gradient = float(evaluate()), self.flat_gradient()
            if (
                state["func_evals"] - evaluated >= group["max_eval"]
                or np.abs(gradient).max() <= group["tolerance_grad"]
                or np.abs(direction * t).max() <= tolerance
                or abs(loss - before) < tolerance
            ):
                break
        return first

    def line_search(
        self, evaluate: Callable[[], Any], start: Point, direction: np.ndarray, t: float, most: int
    ) -> Point:
        """A point along the direction that satisfies the strong Wolfe conditions, or the best of `most` tries."""
        params = self.param_groups[0]["params"]
        places = [p.array.copy() for p in params]

        def at(t: float) -> Point:
            self.move(t, direction)
            loss, gradient = float(evaluate()), self.flat_gradient()
            for p, place in zip(params, places):
                p.array[...] = place
                p.cell[0] += 1
            return Point(t, loss, gradient, gradient @ direction)

        return strong_wolfe(at, start, t, np.abs(direction).max(), most)

    def flat_gradient(self) -> np.ndarray:
        """The gradients of all parameters in one array of its own, 0 where there is none."""
        arrays = [p.array * 0 if p.grad is None else p.grad.array for p in self.param_groups[0]["params"]]
        return np.concatenate([in_elements(array).reshape(-1) for array in arrays])

    def move(self, t: float, direction: np.ndarray) -> None:
        """Takes the parameters t * direction further."""
        start = 0
        for p in self.param_groups[0]["params"]:
            elements = in_elements(p.array)
            elements += (t * direction[start : start + elements.size]).reshape(elements.shape)
            start += elements.size
            p.cell[0] += 1

    # ----- its state -----

    @staticmethod
    def saved_state(state: dict[str, Any]) -> dict[str, Any]:
        def saved(key: str, value: Any) -> Any:
            return [Tensor(each) for each in value] if key in LISTS else Tensor(value) if key in ARRAYS else value

        return {key: saved(key, value) for key, value in state.items()}

    @classmethod
    def loaded_state(cls, p: Tensor, index: Any, names: tuple[str, ...], saved: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for key, value in saved.items():
            if key in LISTS:
                state[key] = [np.array(as_array(each), p.array.real.dtype) for each in value]
            elif key in ARRAYS:
                state[key] = np.array(as_array(value), p.array.real.dtype)
            elif key in ("func_evals", "n_iter"):
                state[key] = int(value)
            elif key in ("t", "prev_loss", "H_diag"):
                state[key] = float(value)
            elif key == "ro":
                state[key] = [float(each) for each in value]
        return state


def next_direction(state: dict[str, Any], gradient: np.ndarray, history_size: int) -> np.ndarray:
    """The estimated inverse Hessian times the gradient, downwards; remembers the step that was taken before.

    Nocedal and Wright, Numerical Optimization, algorithm 7.4: old_stps are its s, old_dirs its y, ro its rho.
    """
    if state["n_iter"] == 1:
        state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
        return -gradient
    changes, steps, scales = state["old_dirs"], state["old_stps"], state["ro"]
    change, step = gradient - state["prev_flat_grad"], state["d"] * state["t"]
    along = change @ step
    if along > CURVED:
        for history, new in ((changes, change), (steps, step), (scales, 1.0 / along)):
            if len(history) == history_size:
                history.pop(0)
            history.append(new)
        state["H_diag"] = along / (change @ change)
    direction, weights = -gradient, []
    for change, step, scale in zip(reversed(changes), reversed(steps), reversed(scales)):
        weights.append(step @ direction * scale)
        direction -= weights[-1] * change
    direction *= state["H_diag"]
    for change, step, scale, weight in zip(changes, steps, scales, reversed(weights)):
        direction += (weight - change @ direction * scale) * step
    return direction


# ----- the line search -----


class Point(NamedTuple):
    """A place along the direction: how far, the loss, its gradient, and that along the direction."""

    t: float
    loss: float
    gradient: np.ndarray
    slope: Any


def strong_wolfe(at: Callable[[float], Point], start: Point, t: float, largest: Any, most: int) -> Point:
    """A point where the loss has fallen and the slope is small (Nocedal and Wright, algorithms 3.5 and 3.6).

    at: evaluates a distance, `most` times and one at most. largest: of the direction's elements.
    """

    def too_high(point: Point) -> bool:
        return point.loss > start.loss + DECREASE * point.t * start.slope

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -CURVATURE * start.slope

    tries = 0
    previous, point = start, at(t)
    while tries < most:  # away from the start, until the two latest have such a point between them
        if too_high(point) or (tries > 1 and point.loss >= previous.loss):
            break
        if flat(point):
            return point
        if point.slope >= 0:
            break
        nearest, farthest = point.t + 0.01 * (point.t - previous.t), point.t * 10
        t = cubic_minimum(previous, point, nearest, farthest)
        previous, point = point, at(t)
        tries += 1
    else:
        previous = start
    return zoom(at, [previous, point], too_high, flat, largest, most - tries)


def zoom(
    at: Callable[[float], Point],
    ends: list[Point],
    too_high: Callable[[Point], bool],
    flat: Callable[[Point], bool],
    largest: Any,
    most: int,
) -> Point:
    """Narrows a bracket until its lower end satisfies the conditions, `most` times at most."""
    low = 0 if ends[0].loss <= ends[1].loss else 1
    stuck = False
    for _ in range(most):
        left, right = sorted(end.t for end in ends)
        if (right - left) * largest < SHORTEST:
            break
        t = cubic_minimum(ends[0], ends[1], left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:  # little would be won there: the second time, farther from the end
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        point = at(t)
        if too_high(point) or point.loss >= ends[low].loss:
            ends[1 - low] = point
            low = 0 if ends[0].loss <= ends[1].loss else 1
            continue
        if flat(point):
            return point
        if point.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = point
    return ends[low]


def cubic_minimum(one: Point, other: Point, nearest: float, farthest: float) -> Any:
    """Where the cubic through two points and their slopes is least, within bounds; else half way between them.

    Nocedal and Wright, equation 3.59.
    """
    left, right = (one, other) if one.t <= other.t else (other, one)
    bend = left.slope + right.slope - 3 * (left.loss - right.loss) / np.subtract(left.t, right.t)
    square = bend**2 - left.slope * right.slope
    if not square >= 0:
        return (nearest + farthest) / 2.0
    root = np.sqrt(square)
    t = right.t - (right.t - left.t) * ((right.slope + root - bend) / (right.slope - left.slope + 2 * root))
    return min(max(t, nearest), farthest)
