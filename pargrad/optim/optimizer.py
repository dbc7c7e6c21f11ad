"""An optimizer is a function on contiguous arrays; the class around it keeps parameter groups and state.

The function reads a parameter, its gradient and its state and writes the new ones into arrays that are given, which
may be the old ones. It works on any piece of the flat arrays: whole parameters in a user's own loop, blocks of the
arena in the data-parallel trainer, with the same bits.

In every optimizer `maximize` climbs instead of descending, `foreach`, `fused` and `capturable`, which choose among
torch's kernels, are taken and mean nothing, and `differentiable` is refused. A number in a tensor is taken by its
value. Where gradients are sparse, torch has SparseAdam; gradients are dense here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from pargrad.graph import RemovableHandle
from pargrad.modes import enable_grad
from pargrad.nn.module import as_array
from pargrad.tensor import Tensor

# What schedulers write into a group beside its options.
SCHEDULED = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")


class Optimizer:
    """The base of the optimizers: https://docs.pytorch.org/docs/stable/optim.html

    params: leaf tensors, (name, tensor) pairs, or groups such as {"params": [...], "lr": 0.1}, in an order. ValueError
    for none, for one that is given twice, and for an option that is unknown or out of its range.

    unit: "element" where the update of an element depends on that element alone (any run of blocks will do),
    "parameter" where it needs the whole parameter, or keeps numbers beside it.
    """

    unit: ClassVar[str] = "element"
    not_negative: ClassVar[tuple[str, ...]] = ("lr", "eps", "weight_decay", "momentum")

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.before_step: dict[int, Any] = {}  # hooks
        self.after_step: dict[int, Any] = {}
        if isinstance(params, set | frozenset):
            raise TypeError(
                f"{type(self).__name__}: a set of parameters has no order, and state is saved by order: write a list"
            )
        groups = list([params] if isinstance(params, Tensor) else params)
        if not groups:
            raise ValueError(
                "an optimizer got an empty parameter list: has the model parameters, and was a generator used up?"
            )
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Adds parameters with options of their own; the others are the defaults."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(
                f"{type(self).__name__}: expected a group such as {{'params': [...], 'lr': 0.1}}, got {group!r}"
            )
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else [p[1] if isinstance(p, tuple) else p for p in params]
        unknown = set(group) - set(self.defaults) - {"params", "name", *SCHEDULED}
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: unknown option {sorted(unknown)[0]!r} in a group, "
                f"expected {sorted(self.defaults)}"
            )
        held = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{type(self).__name__} takes tensors, got {type(p).__name__}: write model.parameters()"
                )
            if not p.is_leaf:
                raise ValueError(f"{type(self).__name__} takes leaves, got a tensor computed by {p.grad_fn}")
            if id(p) in held:
                raise ValueError(f"{type(self).__name__}: a parameter of shape {p.shape} is given twice")
            held.add(id(p))
            self.check_parameter(p)
        given = {**self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        new = {"params": params, **{k: v.item() if isinstance(v, Tensor) else v for k, v in given.items()}}
        self.check(new)
        self.param_groups.append(new)

    def check(self, options: dict[str, Any]) -> None:
        """Raises ValueError on an option that makes no sense."""
        for name in self.not_negative:
            if name in options:
                self.expect(options[name] >= 0.0, f"{name} >= 0", options[name])  # nan is refused too
        if "betas" in options:
            self.expect(len(options["betas"]) == 2, "two betas", options["betas"])
            for i, beta in enumerate(options["betas"]):
                self.expect(0.0 <= beta < 1.0, f"betas[{i}] in [0, 1)", beta)

    def expect(self, holds: bool, what: str, got: Any) -> None:
        """Raises ValueError, with what was got, unless it holds."""
        if not holds:
            raise ValueError(f"{type(self).__name__}: expected {what}, got {got}")

    def check_parameter(self, parameter: Tensor) -> None:
        """Raises ValueError on a parameter that this optimizer is not for."""

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        """The arrays, beginning as zeros, that the options call for."""
        raise NotImplementedError

    @staticmethod
    def state_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of this array of a parameter of that shape, of no more elements; None: it has none.

        Only with unit "parameter" may it be another one than the parameter's.
        """
        return shape

    @staticmethod
    def update(
        parameter: np.ndarray,
        gradient: np.ndarray,
        state: tuple[np.ndarray, ...],
        new_parameter: np.ndarray,
        new_state: tuple[np.ndarray, ...],
        step: int,
        options: dict[str, Any],
    ) -> None:
        """Writes the parameter and state after step number `step` (from 1). Arrays may be the same, old and new.

        Where state does not begin as zeros, the update puts its beginning in place of it when step is 1.
        """
        raise NotImplementedError

    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient; one without is left alone, its state too."""
        for hook in list(self.before_step.values()):
            hook(self, (closure,), {})
        loss = self.take_step(closure)
        for hook in list(self.after_step.values()):
            hook(self, (closure,), {})
        return loss

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls hook(optimizer, args, kwargs) before each `step`; the data-parallel trainer calls no `step`."""
        return RemovableHandle(self.before_step, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls hook(optimizer, args, kwargs) after each `step`; the data-parallel trainer calls no `step`."""
        return RemovableHandle(self.after_step, hook)

    def take_step(self, closure: Any) -> Any:
        """The step itself, which gives the closure's loss."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            names = self.state_names(group)
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    self.step_one(p, p.grad.array, names, group)
        return loss

    def step_one(self, p: Tensor, gradient: np.ndarray, names: tuple[str, ...], group: dict[str, Any]) -> None:
        """Steps one parameter in place."""
        state = self.state[p]
        state["step"] = state.get("step", 0) + 1
        for name in names:
            if name not in state and (shape := self.state_shape(name, p.shape)) is not None:
                state[name] = np.zeros(shape, p.dtype if shape == p.shape else p.array.real.dtype)
        value = in_elements(p.array)
        arrays: Any = tuple(in_elements(state[name]) if name in state else None for name in names)
        self.update(value, in_elements(gradient), arrays, value, arrays, state["step"], group)
        p.cell[0] += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Takes the gradients of all parameters away, or makes them 0 with set_to_none=False."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.array[...] = 0

    def state_dict(self) -> dict[str, Any]:
        """State and options in torch's shape: {"state": {index: {...}}, "param_groups": [{..., "params": [index]}]}."""
        params = [p for group in self.param_groups for p in group["params"]]
        index = {p: i for i, p in enumerate(params)}
        return {
            "state": {
                index[p]: dict(self.state[p]) if self.of_its_own() else self.saved_state(self.state[p])
                for p in params
                if self.state.get(p)
            },
            "param_groups": [{**group, "params": [index[p] for p in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, pargrad's or torch's; the groups must have the same sizes, state its shapes."""
        groups = state_dict["param_groups"]
        sizes, own = [len(group["params"]) for group in groups], [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(f"load_state_dict: expected groups of {own} parameters, got {sizes}")
        kept = {*self.defaults, "name", *SCHEDULED}
        options = [{k: v for k, v in group.items() if k in kept} for group in groups]
        loaded = []
        for group, new, saved in zip(self.param_groups, options, groups):
            self.check({**group, **new})
            for p, index in zip(group["params"], saved["params"]):
                state = state_dict["state"].get(index, {})
                if self.of_its_own():
                    loaded.append((p, {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}))
                else:
                    names = self.state_names({**group, **new})
                    loaded.append((p, self.loaded_state(p, index, names, state)))
        for group, new in zip(self.param_groups, options):
            group.update(new)
        self.state.clear()
        self.state.update({p: state for p, state in loaded if state})

    def of_its_own(self) -> bool:
        """Whether a script has written the optimizer, with a `step` of its own and state that it alone knows."""
        return type(self).state_names is Optimizer.state_names

    @staticmethod
    def saved_state(state: dict[str, Any]) -> dict[str, Any]:
        """One parameter's state, as tensors; the step count is float32, as torch's."""
        return {k: Tensor(v if isinstance(v, np.ndarray) else np.asarray(v, np.float32)) for k, v in state.items()}

    @classmethod
    def loaded_state(cls, p: Tensor, index: Any, names: tuple[str, ...], saved: dict[str, Any]) -> dict[str, Any]:
        """A copy of one parameter's saved state, checked; {} where it has not been stepped."""
        arrays = {}
        for name in names:
            if saved.get(name) is not None:
                array, shape = as_array(saved[name]), cls.state_shape(name, p.shape)
                if array.shape != shape:
                    raise ValueError(
                        f"load_state_dict: {name} of parameter {index} has shape {array.shape}, expected {shape}"
                    )
                arrays[name] = np.array(array, p.dtype if shape == p.shape else p.array.real.dtype)
        # torch's SGD and Muon count no steps; that there is a buffer says that one was taken.
        step = int(saved.get("step", 1 if arrays else 0))
        return {"step": step, **arrays} if step else {}

    def __repr__(self) -> str:
        options = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return f"{type(self).__name__}({', '.join(map(str, options))})"


def in_elements(array: np.ndarray) -> np.ndarray:
    """The same memory as an array of real numbers: a complex one has two a number, of which each is updated alone."""
    array = np.atleast_1d(array)  # numpy's `out=` takes no number
    return array.view(array.real.dtype) if array.dtype.kind == "c" else array


# ----- what updates are written with -----


def ascending(gradient: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    return np.negative(gradient) if options["maximize"] else gradient


def regularized(gradient: np.ndarray, parameter: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """The gradient to descend along: of maximize its opposite, with that of weight_decay / 2 * parameter^2."""
    gradient = ascending(gradient, options)
    return gradient + options["weight_decay"] * parameter if options["weight_decay"] else gradient


def lerp(start: np.ndarray, end: np.ndarray, weight: float, out: np.ndarray, scratch: np.ndarray | None = None) -> None:
    """start + weight * (end - start), from the nearer end, as torch's; out may be start. scratch is overwritten."""
    distance = np.subtract(end, start, out=scratch)
    if weight < 0.5:
        distance *= weight
        np.add(start, distance, out=out)
    else:
        distance *= 1 - weight
        np.subtract(end, distance, out=out)


def mean_square(gradient: np.ndarray, average: np.ndarray, beta: float, out: np.ndarray, scratch: np.ndarray) -> None:
    """beta * average + (1 - beta) * gradient^2; out may be average. scratch is overwritten."""
    np.multiply(gradient, gradient, out=scratch)
    scratch *= 1 - beta
    np.multiply(average, beta, out=out)
    out += scratch


def single(number: float) -> float:
    """A number as torch keeps it beside a parameter: in its default dtype, float32, whatever the parameter's."""
    return float(np.float32(number))


def ignore_implementation_choices(differentiable: Any, *kernels: Any) -> None:
    """torch's choices of kernel (foreach, fused, capturable) mean nothing here; a differentiable step does."""
    if differentiable:
        raise ValueError(
            "differentiable=True: the optimizer's step is not recorded by the graph here; "
            "write the update with operators"
        )
