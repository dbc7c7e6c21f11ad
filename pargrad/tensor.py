"""The engine: a Tensor is an array that remembers the operator it came from, and `backward` walks those memories.

`apply` calls a rule on arrays and, when an input needs a gradient, records a Node: the vjps of those inputs and
where each gradient goes. `run_backward` visits the Nodes from the newest to the oldest, which is a topological
order because an operator is always newer than its inputs, and it needs no recursion.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from pargrad import printing
from pargrad.rules.table import Rule

DEFAULT_FLOAT = np.dtype(np.float32)
CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
CATEGORY_DEFAULT = {0: np.dtype(np.bool_), 1: np.dtype(np.int64), 2: DEFAULT_FLOAT, 3: np.dtype(np.complex64)}

_order = itertools.count()


class _Mode(threading.local):
    grad = True


_mode = _Mode()


class set_grad_enabled:
    """Records operators, or not, inside a `with` block or a decorated function, in this thread.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.set_grad_enabled.html; unlike torch's
    it acts only as a context manager or decorator, so that a mode cannot leak.
    """

    def __init__(self, mode: bool):
        self.mode = mode
        self.before: list[bool] = []

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"a decorated generator, {function.__name__}, would run outside the mode: write the `with` block where "
                "its values are used"
            )

        @functools.wraps(function)
        def within(*args: Any, **named: Any) -> Any:
            # A block of its own for each call: two threads in one function must not restore each other's mode.
            with set_grad_enabled(self.mode):
                return function(*args, **named)

        return within

    def __enter__(self) -> None:
        self.before.append(_mode.grad)
        _mode.grad = self.mode

    def __exit__(self, *error: object) -> None:
        _mode.grad = self.before.pop()


class no_grad(set_grad_enabled):
    """Records nothing inside: https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html"""

    def __new__(cls, function: Callable | None = None) -> Any:  # `@no_grad` and `@no_grad()` are the same
        return object.__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Records inside, even within `no_grad`."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return object.__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(True)


def is_grad_enabled() -> bool:
    """Whether operators are being recorded in this thread."""
    return _mode.grad


class Node:
    """One recorded operator: what to call backward, and where the results go.

    edges: one (vjp, target, output index, shape, dtype) per input that needs a gradient; the target is the Node
    that made the input, or the input itself where it is a leaf. A joint rule has its one vjp in `joint` and the
    argument's position in the edge's place of a vjp. saved: (version cell, version, whose) of what the vjps keep.
    outputs: (shape, dtype) of each value where the rule has several.
    """

    __slots__ = ("edges", "joint", "order", "outputs", "rule", "saved")

    def __init__(self, rule: Rule, edges: list, joint: Callable | None, outputs: list | None):
        self.rule = rule
        self.order = next(_order)
        self.edges: list | None = edges
        self.joint = joint
        self.saved: list[tuple[list, int, int | None]] = []
        self.outputs = outputs

    @property
    def name(self) -> str:
        return "".join(word.capitalize() for word in self.rule.name.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Tensor:
    """An n-dimensional array with a gradient. Made by `pargrad.tensor`, `zeros`, ... or by operators on others.

    array: its memory, a numpy array. grad: the accumulated gradient of a leaf, a Tensor or None. node, index: the
    operator and output it came from. cell: [version, whether a view shares it]; views and `detach` share the cell.
    """

    __slots__ = ("__weakref__", "_requires_grad", "array", "cell", "grad", "index", "node")
    stacked = False  # a Stacked says True, and then knows how to `apply` a rule

    def __init__(self, array: np.ndarray, requires_grad: bool = False, node: Node | None = None, index: int = 0):
        self.array = array
        self.grad: Tensor | None = None
        self.node = node
        self.index = index
        self.cell = [0, False]
        self._requires_grad = requires_grad

    if TYPE_CHECKING:  # `operators` gives Tensor a method for each rule, and these
        T: Tensor

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...

    # ----- what it is -----

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        return self.node

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
            raise RuntimeError("requires_grad of a computed tensor cannot be switched off: write x.detach()")
        if value:
            check_can_require_grad(self.array.dtype)
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without the graph; assigning to it puts other memory in its place."""
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:
        self.array = new.array if isinstance(new, Tensor) else np.asarray(new)

    @property
    def _version(self) -> int:
        return self.cell[0]

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        out = Tensor(self.array)
        out.cell = self.cell
        return out

    def numpy(self) -> np.ndarray:
        """The memory itself, as a numpy array (no copy)."""
        if self._requires_grad:
            raise RuntimeError("numpy() of a tensor that requires grad would leave the graph: write x.detach().numpy()")
        return self.array

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(
                f"item() takes a tensor of 1 element, got shape {self.shape}: write x.tolist() or index it"
            )
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def dim(self) -> int:
        return self.array.ndim

    def numel(self) -> int:
        return self.array.size

    def size(self, dim: int | None = None) -> Any:
        return self.array.shape if dim is None else self.array.shape[dim]

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous: write (x != 0).all() or .any()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self._only("float"))

    def __int__(self) -> int:
        return int(self._only("int"))

    def _only(self, kind: str) -> Any:
        if self.array.size != 1:
            raise ValueError(
                f"{kind}() takes a tensor of 1 element, got shape {self.shape}: write x.tolist() or index it"
            )
        return self.array.item()

    def __index__(self) -> int:
        if self.array.dtype.kind not in "biu" or self.array.size != 1:
            raise TypeError(
                f"only an integer tensor of one element is an index, got {self.dtype} of shape {self.shape}: "
                "write int(x)"
            )
        return int(self.array.item())

    def __format__(self, specification: str) -> str:
        return object.__format__(self, specification) if self.ndim else format(self.array.item(), specification)

    __hash__ = object.__hash__  # equality is elementwise, identity is what dictionaries and sets go by

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise RuntimeError("only a leaf can be deep-copied: write x.detach().clone(), or copy before computing")
        out = self.__class__.__new__(self.__class__)
        Tensor.__init__(out, self.array.copy(), self._requires_grad)
        out.grad = None if self.grad is None else self.grad.__deepcopy__(memo)
        memo[id(self)] = out
        return out

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.node is not None:
            raise RuntimeError("only a leaf can be pickled: write x.detach()")
        return restore, (self.__class__, np.ascontiguousarray(self.array).reshape(self.shape), self._requires_grad)

    def __repr__(self) -> str:
        # Empty brackets show neither a shape nor that their elements would be integers.
        empty = not self.array.size
        words = [f"size={self.shape}"] if empty and self.ndim != 1 else []
        if self.array.dtype not in ((DEFAULT_FLOAT,) if empty else (DEFAULT_FLOAT, np.int64, np.bool_)):
            words.append(f"dtype={self.array.dtype}")
        if self.node is not None:
            words.append(f"grad_fn={self.node}")
        elif self._requires_grad:
            words.append("requires_grad=True")
        return printing.call("tensor", self.array, words)

    # ----- what it does -----

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False) -> None:
        """Adds d(self)/d(leaf), times `gradient`, to `.grad` of every leaf that requires grad.

        gradient: of self's shape; may be left out where self has one element. retain_graph: keep what the graph
        saved, so that it can be walked again. https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html
        """
        run_backward(self, seed_gradient(self, gradient), accumulate_grad, retain_graph)

    def assign(self, rule: Rule, *others: Any) -> Tensor:
        """self = rule(self, *others), in self's memory: what `+=` and its kin are."""
        if _mode.grad and self._requires_grad and self.node is None:
            raise RuntimeError(
                f"in-place {rule.name} on a leaf that requires grad would lose the value its gradient belongs to: "
                "write it inside `with no_grad():`, or out of place (x = x + y)"
            )
        keeps = rule.saved and any(saved is not None and 0 in saved.arguments for saved in rule.saved.values())
        shadow = Tensor(
            self.array.copy() if keeps and _mode.grad else self.array, self._requires_grad, self.node, self.index
        )
        new = apply(rule, shadow, *(shadow if other is self else other for other in others))
        if new._requires_grad and self.cell[1]:
            raise RuntimeError(
                f"in-place {rule.name} on memory that views share, inside a graph: the views' gradients would be "
                "wrong. Write it out of place (x = x + y), or on x.clone()"
            )
        if new.shape != self.shape:
            raise RuntimeError(
                f"in-place {rule.name} would change the shape from {self.shape} to {new.shape}: write it out of place"
            )
        if CATEGORY[new.dtype.kind] > CATEGORY[self.dtype.kind]:
            raise RuntimeError(
                f"in-place {rule.name} gives {new.dtype}, which {self.dtype} cannot hold: write it out of place"
            )
        if not self.array.flags.writeable:
            raise RuntimeError(
                f"in-place {rule.name} on read-only memory (expanded, or shared with other processes): "
                "write x.clone() first"
            )
        # int64 goes into uint8 as in torch: the categories have been compared above.
        np.copyto(self.array, new.array, casting="unsafe")
        self.cell[0] += 1
        if _mode.grad:  # where nothing is recorded, a parameter stays one
            self.node, self.index, self._requires_grad = new.node, new.index, new._requires_grad
        return self


def restore(kind: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    """A Tensor from what pickle kept of it, in memory of its own: protocol 5 may hand over another's, or read-only."""
    out = kind.__new__(kind)
    Tensor.__init__(out, array if array.base is None else array.copy(), requires_grad)
    return out


def check_can_require_grad(dtype: np.dtype) -> None:
    if dtype.kind not in "fc":
        raise RuntimeError(f"only floating-point tensors can require grad, got {dtype}: write x.float() first")


# ----- calling a rule -----


def literal(x: Any) -> Any:
    """An operator's input as numpy takes it: an array, or a Python number that changes no dtype."""
    if isinstance(x, np.generic):  # np.float64 is a float, too, but one that would make float32 float64
        return x.item()
    if isinstance(x, np.ndarray | int | float | complex):
        return x
    raise TypeError(
        f"an operator takes tensors, numpy arrays and numbers, got {type(x).__name__}: write pargrad.tensor(...)"
    )


def category(number: Any) -> int:
    return next(rank for rank, kind in enumerate((bool, int, float, complex)) if isinstance(number, kind))


def result_dtype(arrays: list[Any]) -> np.dtype:
    """torch's promotion: the dtype of arrays, then of 0-d arrays, then of literals, each only to a higher category."""
    result = None
    for rank in (
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and x.ndim],
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and not x.ndim],
        [CATEGORY_DEFAULT[category(x)] for x in arrays if not isinstance(x, np.ndarray)],
    ):
        highest = None
        for dtype in rank:
            if highest is None or CATEGORY[dtype.kind] > CATEGORY[highest.kind]:
                highest = dtype
            elif CATEGORY[dtype.kind] == CATEGORY[highest.kind]:
                highest = np.promote_types(highest, dtype)
        if highest is not None and (result is None or CATEGORY[highest.kind] > CATEGORY[result.kind]):
            result = highest
    assert result is not None
    return result


def coerce(rule: Rule, arrays: list[Any]) -> list[Any]:
    """Brings the array arguments of a rule to one dtype, as its row says."""
    dtype = None
    for x in arrays:
        if type(x) is np.ndarray:
            if dtype is None:
                dtype = x.dtype
            elif x.dtype is not dtype:
                break
        elif rule.dtype == "match" or (type(x) is not float and type(x) is not int):
            break
    else:
        if dtype is not None and dtype.kind == "f":
            return arrays  # the way of nearly every call
    arrays = [literal(x) for x in arrays]
    moving = [x for i, x in enumerate(arrays) if i not in rule.fixed]
    if rule.dtype == "match":
        kinds = {str(x.dtype) for x in moving if isinstance(x, np.ndarray)}
        if len(kinds) > 1 or len(moving) > sum(isinstance(x, np.ndarray) for x in moving):
            raise RuntimeError(
                f"{rule.name}: expected tensors of one dtype, got {' and '.join(sorted(kinds)) or 'a number'}: "
                "write x.float() or x.to(y.dtype)"
            )
        return arrays
    target = result_dtype(moving)
    if CATEGORY[target.kind] < 2:
        if rule.dtype == "floating":
            raise RuntimeError(f"{rule.name}: expected a floating-point tensor, got {target}: write x.float()")
        if rule.dtype == "float":
            target = DEFAULT_FLOAT
    single = all(not isinstance(x, np.ndarray) for x in moving)
    return [
        x
        if i in rule.fixed
        else x.astype(target, copy=False)
        if isinstance(x, np.ndarray)
        else np.asarray(x, target)
        if single
        else x
        for i, x in enumerate(arrays)
    ]


def explain(rule: Rule, arrays: list[Any], settings: dict[str, Any], error: Exception) -> Exception:
    """numpy's error in the operator's terms, of the type that torch raises."""
    given = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else repr(x) for x in arrays)
    told = "".join(f", {name}={value!r}" for name, value in settings.items())
    kind = IndexError if isinstance(error, IndexError) else RuntimeError
    return kind(f"{rule.name}({given}{told}): {error}")


def apply(rule: Rule, *inputs: Any, **settings: Any) -> Any:
    """Calls a rule on Tensors (arrays and numbers are constants) and records it where a gradient will be wanted."""
    arrays = []
    needed = False
    for x in inputs:
        if isinstance(x, Tensor):
            if x.stacked:
                return x.apply(rule, inputs, settings)
            arrays.append(x.array)
            needed = needed or x._requires_grad
        else:
            arrays.append(x)
    if rule.dtype != "as is":
        arrays = coerce(rule, arrays)
    else:
        arrays = [x if type(x) is np.ndarray else np.asarray(x) for x in arrays]
    try:
        result = rule.function(*arrays, **settings)
    except (ValueError, IndexError) as error:
        raise explain(rule, arrays, settings, error) from None
    if not rule.differentiable:
        return Tensor(as_array(result))

    value = result[0]
    edges: list = []
    if needed and _mode.grad:
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor) and x._requires_grad:
                vjp = i if rule.joint else result[i + 1]
                if vjp is not None:
                    target, array = x.node, x.array
                    edges.append((vjp, x if target is None else target, x.index, array.shape, array.dtype))
    joint = result[1] if rule.joint else None

    if type(value) is tuple:
        values = [as_array(each) for each in value]
        node = Node(rule, edges, joint, [(each.shape, each.dtype) for each in values]) if edges else None
        outputs = tuple(
            Tensor(each, True, node, i) if node is not None and each.dtype.kind in "fc" else Tensor(each)
            for i, each in enumerate(values)
        )
        if node is not None:
            remember(node, inputs, outputs)
        return outputs

    if type(value) is not np.ndarray:
        value = np.asarray(value)  # numpy gives scalars where arrays were 0-d
    if edges and value.dtype.kind in "fc":
        node = Node(rule, edges, joint, None)
        output = Tensor(value, True, node)
        remember(node, inputs, (output,))
    else:
        output = Tensor(value)
    if rule.view and isinstance(inputs[0], Tensor) and np.may_share_memory(value, arrays[0]):
        output.cell = inputs[0].cell
        output.cell[1] = True
    return output


def as_array(value: Any) -> np.ndarray:
    return value if type(value) is np.ndarray else np.asarray(value)


def remember(node: Node, inputs: tuple, outputs: tuple[Tensor, ...]) -> None:
    """Notes the versions of the tensors that the vjps keep, so that backward can tell when one was overwritten."""
    table, variadic = node.rule.saved, node.rule.variadic
    for edge in node.edges if node.joint is None else [[node.joint]]:  # type: ignore[union-attr]
        vjp = edge[0]
        keeps = table[vjp.__code__]
        if keeps is None:
            continue
        for i in range(len(inputs)) if variadic and keeps.arguments else keeps.arguments:
            x = inputs[i]
            if isinstance(x, Tensor):
                node.saved.append((x.cell, x.cell[0], i))
        for i in keeps.locals:
            kept = vjp.__closure__[i].cell_contents  # type: ignore[index]
            for output in outputs:
                if kept is output.array:
                    node.saved.append((output.cell, output.cell[0], None))


# ----- backward -----


def seed_gradient(root: Tensor, gradient: Any) -> np.ndarray:
    """The gradient that a backward walk starts with, checked."""
    if not root._requires_grad:
        raise RuntimeError(
            "backward() on a tensor that does not require grad: nothing it was computed from has requires_grad=True, "
            "or it was computed inside no_grad()"
        )
    if gradient is None:
        if root.array.size != 1:
            raise RuntimeError(
                f"backward() without a gradient takes a tensor of one element, got shape {root.shape}: "
                "write x.sum().backward() or x.backward(gradient)"
            )
        return np.ones_like(root.array)
    array = gradient.array if isinstance(gradient, Tensor) else np.asarray(gradient)
    if array.shape != root.shape:
        raise RuntimeError(f"backward(gradient): expected shape {root.shape}, got {array.shape}")
    return array.astype(root.dtype, copy=False)


def accumulate_grad(leaf: Tensor, gradient: np.ndarray, owned: bool) -> None:
    """Adds to `leaf.grad`. An array that somebody else may hold is copied, never kept."""
    if leaf.grad is None:
        leaf.grad = Tensor(gradient if owned else gradient.copy())
    else:
        np.add(leaf.grad.array, gradient, out=leaf.grad.array)
        leaf.grad.cell[0] += 1


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sums a gradient over the dimensions along which the input was repeated."""
    extra = gradient.ndim - len(shape)
    stretched = tuple(i + extra for i, size in enumerate(shape) if size == 1 and gradient.shape[i + extra] != 1)
    out = as_array(gradient.sum(axis=(*range(extra), *stretched)))
    return out if out.shape == shape else out.reshape(shape)


def run_backward(
    root: Tensor,
    gradient: np.ndarray,
    accumulate: Callable[[Tensor, np.ndarray, bool], None],
    retain_graph: bool = False,
) -> None:
    """Walks the graph under `root` once, newest operator first, and hands each leaf its whole gradient.

    accumulate(leaf, gradient, owned) is called once a leaf, as soon as its last contribution has arrived; `owned`
    says whether the array is nobody else's. This is where the trainer's gradient slots come in.
    """
    if root.node is None:
        accumulate(root, gradient, False)
        return
    nodes, uses = reach(root.node)
    pending: dict[Any, np.ndarray] = {root.node if root.node.outputs is None else (root.node, root.index): gradient}
    owned: set[Any] = set()  # targets whose pending array was made here, so that it may be added to in place

    for node in sorted(nodes, key=attrgetter("order"), reverse=True):
        if node.outputs is None:
            g: Any = pending.pop(node)
        else:
            parts = [pending.pop((node, i), None) for i in range(len(node.outputs))]
            g = tuple(np.zeros(*each) if part is None else part for part, each in zip(parts, node.outputs))
        for cell, version, whose in node.saved:
            if cell[0] != version:
                raise overwritten(node, cell, version, whose)
        gradients = None if node.joint is None else node.joint(g)
        for vjp, target, index, shape, dtype in node.edges:  # type: ignore[union-attr]
            out = vjp(g) if gradients is None else gradients[vjp]
            if type(out) is not np.ndarray:
                out = np.asarray(out)
            if out.shape != shape:
                out = unbroadcast(out, shape)
            if out.dtype is not dtype:
                out = out.astype(dtype, copy=False)

            leaf = type(target) is not Node
            key = target if leaf or target.outputs is None else (target, index)
            before = pending.get(key)
            if before is None:
                pending[key] = out
                if out is not g and out.base is None:  # then it was made by this very vjp
                    owned.add(key)
            elif key in owned:
                np.add(before, out, out=before)
            else:
                pending[key] = as_array(before + out)
                owned.add(key)
            if leaf:
                uses[target] -= 1
                if not uses[target]:
                    accumulate(target, pending.pop(target), target in owned)
        if not retain_graph:
            node.edges = node.joint = None
            node.saved = []


def reach(root: Node) -> tuple[set[Node], dict[Tensor, int]]:
    """The nodes under a node, and how many edges lead to each leaf."""
    nodes, stack = {root}, [root]
    uses: dict[Tensor, int] = {}
    while stack:
        node = stack.pop()
        if node.edges is None:
            raise RuntimeError(
                f"backward through {node} a second time: what it saved was freed by the first. "
                "Write backward(retain_graph=True) the first time, or compute the value again"
            )
        for edge in node.edges:
            target = edge[1]
            if type(target) is not Node:
                uses[target] = uses.get(target, 0) + 1
            elif target not in nodes:
                nodes.add(target)
                stack.append(target)
    return nodes, uses


def overwritten(node: Node, cell: list, version: int, argument: int | None) -> RuntimeError:
    whose = "its value" if argument is None else f"its argument {argument}"
    return RuntimeError(
        f"{node.rule.name} saved {whose} for backward, and an in-place operator has changed it since (version "
        f"{cell[0]}, expected {version}): write that operator out of place (x = x + y), or on x.clone()"
    )
