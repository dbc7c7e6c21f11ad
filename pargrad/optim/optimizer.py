"""An optimizer is a function on contiguous arrays; the class around it keeps parameter groups and state.

The function reads a parameter, its gradient and its state and writes the new ones into arrays that are given, which
may be the old ones. It works on any piece of the flat arrays: whole parameters in a user's own loop, blocks of the
arena in the data-parallel trainer, with the same bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from pargrad.modes import enable_grad
from pargrad.tensor import Tensor


class Optimizer:
    """The base of the optimizers: https://docs.pytorch.org/docs/stable/optim.html

    unit: "element" where the update of an element depends on that element alone (any run of blocks will do),
    "parameter" where it needs the whole parameter.
    """

    unit: ClassVar[str] = "element"

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
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
        unknown = set(group) - set(self.defaults) - {"params"}
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
        new = {"params": params, **self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        self.check(new)
        self.param_groups.append(new)

    def check(self, options: dict[str, Any]) -> None:
        """Raises ValueError on an option that makes no sense."""
        for name in ("lr", "eps", "weight_decay", "momentum"):
            if name in options and not options[name] >= 0.0:  # nan is refused too
                raise ValueError(f"{type(self).__name__}: expected {name} >= 0, got {options[name]}")
        if len(options.get("betas", (0, 0))) != 2:
            raise ValueError(f"{type(self).__name__}: expected two betas, got {options['betas']}")
        for i, beta in enumerate(options.get("betas", ())):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"{type(self).__name__}: expected betas[{i}] in [0, 1), got {beta}")

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        """The arrays, each shaped like its parameter and beginning as zeros, that the options call for."""
        raise NotImplementedError

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
        """Writes the parameter and state after step number `step` (from 1). Arrays may be the same, old and new."""
        raise NotImplementedError

    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient; one without is left alone, its state too."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            names = self.state_names(group)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                for name in names:
                    if name not in state:
                        state[name] = np.zeros_like(p.array)
                # A number is updated as an array of one element: numpy's `out=` takes no other.
                value, gradient = np.atleast_1d(p.array), np.atleast_1d(p.grad.array)
                arrays = tuple(np.atleast_1d(state[name]) for name in names)
                self.update(value, gradient, arrays, value, arrays, state["step"], group)
                p.cell[0] += 1
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
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
            "state": {index[p]: {k: packed(v) for k, v in self.state[p].items()} for p in params if self.state.get(p)},
            "param_groups": [{**group, "params": [index[p] for p in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, pargrad's or torch's; the groups must have the same sizes, state its shapes."""
        groups = state_dict["param_groups"]
        sizes, own = [len(group["params"]) for group in groups], [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(f"load_state_dict: expected groups of {own} parameters, got {sizes}")
        options = [{k: v for k, v in group.items() if k in self.defaults} for group in groups]
        for group, new in zip(self.param_groups, options):
            self.check({**group, **new})
        names = [name for group in groups for name in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        loaded = [self.loaded_state(p, name, state_dict["state"].get(name, {})) for p, name in zip(params, names)]
        for group, new in zip(self.param_groups, options):
            group.update(new)
        self.state.clear()
        self.state.update({p: state for p, state in zip(params, loaded) if state})

    @staticmethod
    def loaded_state(parameter: Tensor, name: Any, saved: dict[str, Any]) -> dict[str, Any]:
        """A copy of one parameter's saved state, checked; {} where it has not been stepped."""
        arrays = {k: np.array(unpacked(v), parameter.dtype) for k, v in saved.items() if k != "step" and v is not None}
        for key, array in arrays.items():
            if array.shape != parameter.shape:
                raise ValueError(
                    f"load_state_dict: {key} of parameter {name} has shape {array.shape}, expected {parameter.shape}"
                )
        # torch's SGD counts no steps; that there is a buffer says that one was taken.
        step = int(saved.get("step", 1 if arrays else 0))
        return {"step": step, **arrays} if step else {}

    def __repr__(self) -> str:
        options = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return f"{type(self).__name__}({', '.join(map(str, options))})"


def packed(value: Any) -> Tensor:
    return Tensor(value) if isinstance(value, np.ndarray) else Tensor(np.asarray(value, np.float32))


def unpacked(value: Any) -> np.ndarray:
    return value.array if isinstance(value, Tensor) else np.asarray(value)


def ascending(gradient: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    return np.negative(gradient) if options["maximize"] else gradient


def ignore_implementation_choices(foreach: Any, capturable: Any, differentiable: Any, fused: Any) -> None:
    """torch's choices of kernel mean nothing here; a differentiable step does, and is not offered."""
    if differentiable:
        raise ValueError(
            "differentiable=True: the optimizer's step is not recorded by the graph here; "
            "write the update with operators"
        )
