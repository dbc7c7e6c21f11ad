"""Operators in place: `x += y`, `x[index] = y`, `x.exp_()`, also inside a graph and on views.

A tensor that is overwritten becomes the newest value of its memory: it is given the node of what was computed. Where
it is a view, the tensor it is a view of is given a node that puts the new part into the old whole, and every other
view of that memory is taken anew, so that each sees in its gradient what it sees in its values.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.graph import Named, Node
from pargrad.modes import INFERENCE, mode
from pargrad.promotion import CATEGORY
from pargrad.rules import RULES
from pargrad.rules.indexing import is_basic
from pargrad.rules.table import Rule
from pargrad.tensor import Origin, Tensor, apply


def assign(tensor: Tensor, name: str, function: Callable, *others: Any, saves: bool = True, **settings: Any) -> Tensor:
    """tensor = function(tensor, *others), in tensor's memory.

    saves: whether the function may keep its first argument for backward; it is then given a copy.
    """
    root = tensor if tensor.origin is None else tensor.origin.root
    if mode.grad and (is_parameter(root) or is_parameter(tensor)):
        of = "a leaf" if is_parameter(tensor) else "a view of a leaf"
        raise RuntimeError(
            f"in-place {name} on {of} that requires grad would lose the value its gradient belongs to: "
            "write it inside `with no_grad():`, or out of place (x = x + y)"
        )
    check_inference(tensor)
    if not tensor.array.flags.writeable:
        raise RuntimeError(
            f"in-place {name} on read-only memory (expanded, or shared with other processes): write x.clone() first"
        )
    before = tensor.array.copy() if saves and mode.grad else tensor.array
    shadow = Tensor(before, tensor._requires_grad, tensor.node, tensor.index)
    new = function(shadow, *(shadow if other is tensor else other for other in others), **settings)
    if new.shape != tensor.shape:
        raise RuntimeError(
            f"in-place {name} would change the shape from {tensor.shape} to {new.shape}: write it out of place"
        )
    if CATEGORY[new.dtype.kind] > CATEGORY[tensor.dtype.kind]:
        raise RuntimeError(
            f"in-place {name} gives {new.dtype}, which {tensor.dtype} cannot hold: write it out of place"
        )
    # int64 goes into uint8 as in torch: the categories have been compared above.
    np.copyto(tensor.array, new.array, casting="unsafe")
    if tensor.cell is not INFERENCE:
        tensor.cell[0] += 1
    if mode.grad:  # where nothing is recorded, a parameter stays one
        follow(tensor, new if new._requires_grad or not tensor._requires_grad else forgetting(tensor, name))
    return tensor


def check_inference(tensor: Tensor) -> None:
    if tensor.cell is INFERENCE:
        tensor.cell[0]  # which says, outside of inference_mode, why not


def forgetting(tensor: Tensor, name: str) -> Tensor:
    """A constant in the place of what was computed: it stays in the graph, and sends back zeros."""
    edges = [(lambda g: np.where(False, g, 0), tensor.key, False, tensor.shape, tensor.dtype)]
    return Tensor(tensor.array, True, Node(Named(name), edges))


def follow(tensor: Tensor, new: Tensor) -> None:
    """Gives a tensor the node of its new value, and all that looks at its memory the node of what it sees there."""
    if tensor.origin is None:
        root = tensor
        settle(root, new)
    else:
        root = tensor.origin.root
        if not root._requires_grad and not new._requires_grad:
            return
        settle(root, part_replaced(root, tensor.origin.path, new))
    for reference in root.cell[1] or ():
        view = reference()
        if view is not None and view.origin is not None and view.origin.root is root and not is_parameter(view):
            settle(view, seen_through(view.origin))


def is_parameter(tensor: Tensor) -> bool:
    return tensor._requires_grad and tensor.node is None


def settle(tensor: Tensor, new: Tensor) -> None:
    """Gives a tensor the node of another one; a gradient that it retains is from now on that of its new value."""
    retains = tensor.retains_grad
    if retains:
        tensor._hooks().retains = None
    tensor.node, tensor.index, tensor._requires_grad = new.node, new.index, new._requires_grad
    if retains:
        tensor.retain_grad()


def seen_through(origin: Origin) -> Tensor:
    tensor = origin.root
    for rule, settings in origin.path:
        tensor = apply(rule, tensor, **settings)
    return tensor


def part_replaced(root: Tensor, path: tuple[tuple[Rule, dict[str, Any]], ...], new: Tensor) -> Tensor:
    """The root's new value: what the path leads to is `new`, the rest is as it was."""

    def walked(x: Any) -> Any:
        for rule, settings in path:
            x = rule(x, **settings)
        return x

    memory = root.array

    def around(g: Any) -> Any:
        # In the root's memory layout, so that here, too, the path leads to a view. A complex one is two things.
        outside = np.full_like(memory, 1 + 1j if memory.dtype.kind == "c" else 1)
        walked(outside)[...] = 0
        return masked(g, outside)

    edges: list = []
    if root._requires_grad:
        edges.append((around, root.key, False, root.shape, root.dtype))
    if new._requires_grad:
        edges.append((walked, new.key, new.is_leaf, new.shape, new.dtype))
    return Tensor(root.array, True, Node(Named("copy_slices"), edges))


def masked(g: Any, mask: np.ndarray) -> Any:
    """g where the mask is not 0; of complex ones, real and imaginary parts each by themselves."""
    if mask.dtype.kind != "c":
        return np.where(mask != 0, g, 0)
    return RULES["complex"](np.where(mask.real != 0, np.real(g), 0), np.where(mask.imag != 0, np.imag(g), 0))


def keeps_first(rule: Rule) -> bool:
    """Whether a derivative of the rule may need what its first argument was."""
    return any(saved is not None and 0 in saved.arguments for saved in rule.saved.values()) or rule.plain is not None


def of_rule(rule: Rule) -> Callable[..., Tensor]:
    """`x += y`: a rule in place."""
    saves = keeps_first(rule)

    def function(self: Tensor, *others: Any, **settings: Any) -> Tensor:
        return assign(self, rule.name, lambda *inputs: apply(rule, *inputs, **settings), *others, saves=saves)

    return function


def of_function(function: Callable[..., Tensor], rule: Rule | None = None) -> Callable[..., Tensor]:
    """`x.clamp_(0, 1)`: a public function in place; rule: the only one that it calls on the tensor, if it is one."""
    saves = rule is None or keeps_first(rule)

    def in_place(self: Tensor, *others: Any, **settings: Any) -> Tensor:
        return assign(self, function.__name__, function, *others, saves=saves, **settings)

    in_place.__name__ = in_place.__qualname__ = f"{function.__name__}_"
    in_place.__doc__ = f"`{function.__name__}`, in place: the tensor takes its value, and is what is returned."
    return in_place


def of_view(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`x.t_()`: a function that gives a view, in place: from then on the tensor looks so at its memory.

    What the tensor was stays as a tensor of its own, which it and all that were views of it are views of.
    """

    def in_place(self: Tensor, *others: Any, **settings: Any) -> Tensor:
        if mode.grad and is_parameter(self):
            raise RuntimeError(
                f"{in_place.__name__} of a leaf that requires grad would change what its gradient belongs to: "
                f"write it inside `with no_grad():`, or x.{function.__name__}(...)"
            )
        check_inference(self)
        if self.origin is None:
            whole = Tensor(self.array, self._requires_grad, self.node, self.index)
            whole.cell = self.cell
            for reference in self.cell[1] or ():
                view = reference()
                if view is not None and view.origin is not None and view.origin.root is self:
                    view.origin = view.origin._replace(root=whole)
            self.origin = Origin(whole, ())
            self.cell[1] = [*(self.cell[1] or ()), weakref.ref(self)]
        else:
            whole = self
        new = function(whole, *others, **settings)
        self.array, self.origin = new.array, new.origin or self.origin
        if mode.grad:  # where nothing is recorded, a parameter stays one
            settle(self, new)
        return self

    in_place.__name__ = in_place.__qualname__ = f"{function.__name__}_"
    in_place.__doc__ = f"`{function.__name__}`, in place: the tensor itself has another shape from then on."
    return in_place


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Every element whose indices are all equal becomes the value, in place; wrap: again below, in a high matrix.

    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.fill_diagonal_.html
    """
    if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
        raise RuntimeError(f"fill_diagonal_: expected a matrix, or more dimensions of one size, got shape {self.shape}")
    diagonal = np.zeros(self.shape, np.bool_)
    np.fill_diagonal(diagonal, True, wrap)
    setitem(self, diagonal, fill_value)
    return self


def copied(x: Tensor, value: Any) -> Tensor:
    """The value, as x would hold it."""
    source = value if isinstance(value, Tensor) else Tensor(np.asarray(value))
    if source.dtype != x.dtype:
        source = apply(RULES["to"], source, dtype=x.dtype)
    return apply(RULES["expand"], source, size=x.shape)


def copy_(self: Tensor, src: Any) -> Tensor:
    """Every element becomes that of src, broadcast to self's shape and cast to its dtype, in place."""
    return assign(self, "copy_", copied, src, saves=False)


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, with all that numpy indexes with; inside a graph it is recorded."""
    index = plain_index(index, copy=True)
    check_inference(self)
    numbers, index = numbers_first(index, self.ndim)
    if numbers is not None:
        self = apply(RULES["getitem"], self, index=numbers)
    value = without_leading_ones(value)
    if not mode.grad or not (self._requires_grad or (isinstance(value, Tensor) and value._requires_grad)):
        try:
            self.array[index] = value.array if isinstance(value, Tensor) else value
        except ValueError as error:
            raise RuntimeError(f"x[index] = value, for x of shape {self.shape}: {error}") from None
        self.cell[0] += 1
    elif is_basic(index):
        copy_(apply(RULES["getitem"], self, index=index), value)
    else:
        assign(self, "x[index] = value", apply_set_at, value, index=index)


def numbers_first(index: Any, ndim: int) -> tuple[Any, Any]:
    """An index in two where torch and numpy differ: x[0, :, [1, 2]] is x[0][:, [1, 2]], and has its dims in that order.

    numpy takes a number beside arrays for one of them, and puts what arrays pick first where they stand apart, if only
    by a `...` for no dimension.
    """
    if not isinstance(index, tuple):
        return None, index
    arrays = [i for i, part in enumerate(index) if is_array(part)]
    if not arrays:
        return None, index
    taken = sum(dims_of(part) for part in index if part is not None and part is not Ellipsis)
    if taken == ndim:
        index = tuple(part for part in index if part is not Ellipsis)
        arrays = [i for i, part in enumerate(index) if is_array(part)]
    numbers = [i for i, part in enumerate(index) if isinstance(part, int | np.integer) and not isinstance(part, bool)]
    if not numbers or max(*numbers, *arrays) - min(*numbers, *arrays) == len(numbers) + len(arrays) - 1:
        return None, index
    first: list[Any] = []
    for i, part in enumerate(index):
        first += [part] if i not in arrays else [slice(None)] * dims_of(part)
    rest = (
        part if i in arrays or part is Ellipsis else slice(None) for i, part in enumerate(index) if i not in numbers
    )
    return tuple(first), tuple(rest)


def is_array(part: Any) -> bool:
    """Whether this part of an index is an array, a list of its elements, or True or False."""
    return isinstance(part, bool) or not isinstance(part, slice | int | np.integer | type(None) | type(Ellipsis))


def dims_of(part: Any) -> int:
    """How many dimensions a part of an index takes from what it indexes: a mask as many as it has."""
    if not is_array(part):
        return 1
    array = np.asarray(part)
    return array.ndim if array.dtype == np.bool_ else 1


def without_leading_ones(value: Any) -> Any:
    """What is assigned may have more dimensions than the place it goes to, of size 1: as torch has it."""
    shape = getattr(value, "shape", ())
    if not shape or shape[0] != 1:
        return value
    return value.reshape(shape[next((i for i, size in enumerate(shape) if size != 1), len(shape)) :])


def apply_set_at(x: Tensor, value: Any, *, index: Any) -> Tensor:
    if isinstance(value, Tensor) and value.dtype != x.dtype:
        value = apply(RULES["to"], value, dtype=x.dtype)
    return apply(RULES["set_at"], x, value, index=index)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element becomes the value, in place."""
    return copy_(self, value)


def zero_(self: Tensor) -> Tensor:
    """Every element becomes 0, in place."""
    return copy_(self, 0)


def detach_(self: Tensor) -> Tensor:
    """Leaves the graph, in place."""
    if self.origin is not None:
        raise RuntimeError("detach_() of a view would leave its base in the graph: write x.detach()")
    self.node, self.index, self._requires_grad = None, 0, False
    return self


def plain_index(index: Any, copy: bool = False) -> Any:
    """An index as numpy takes it: arrays for tensors, of which the graph must have its own."""
    if isinstance(index, tuple):
        return tuple(plain_index(part, copy) for part in index)
    array = index.array if isinstance(index, Tensor) else index
    if not isinstance(array, np.ndarray):
        return array
    if not array.ndim and array.dtype.kind in "iu":
        return int(array)  # as torch has it: a number, so that the result is a view
    return array.copy() if copy else array


def obeying_inplace(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function with an argument `inplace` as torch.nn.functional's: True overwrites its input, which it returns."""
    place = list(inspect.signature(function).parameters).index("inplace")
    overwrite = of_function(function)

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Tensor:
        if args[place] if len(args) > place else named.get("inplace", False):
            named.pop("inplace", None)
            first = args[:1] or (named.pop("input"),)
            return overwrite(*first, *args[1:place], *args[place + 1 :], **named)
        return function(*args, **named)

    return called
