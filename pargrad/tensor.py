"""The engine: a Tensor is an array that remembers the operator it came from, and `backward` walks those memories.

`apply` calls a rule on arrays and, when an input needs a gradient, records a Node: the vjps of those inputs and
where each gradient goes. `run_backward` visits the Nodes from the newest to the oldest, which is a topological
order because an operator is always newer than its inputs, and it needs no recursion.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any, SupportsIndex

import numpy as np

from pargrad.rules.table import Rule

DEFAULT_FLOAT = np.dtype(np.float32)
CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
CATEGORY_DEFAULT = {0: np.dtype(np.bool_), 1: np.dtype(np.int64), 2: DEFAULT_FLOAT, 3: np.dtype(np.complex64)}

_order = itertools.count()


class _Mode(threading.local):
    grad = True


_mode = _Mode()


class set_grad_enabled(contextlib.ContextDecorator):
    """Records operators, or not, inside a `with` block or a decorated function, in this thread.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.set_grad_enabled.html; unlike torch's
    it acts only as a context manager or decorator, so that a mode cannot leak.
    """

    def __init__(self, mode: bool):
        self.mode = mode
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(_mode.grad)
        _mode.grad = self.mode

    def __exit__(self, *error: object) -> None:
        _mode.grad = self.before.pop()


class no_grad(set_grad_enabled):
    """Records nothing inside: https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html"""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Records inside, even within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


def is_grad_enabled() -> bool:
    return _mode.grad


class Node:
    """One recorded operator: what to call backward, and where the results go.

    edges: one (vjp, target, output index, shape, dtype) per input that needs a gradient; the target is the Node
    that made the input, or the input itself where it is a leaf. A joint rule has its one vjp in `joint` and the
    argument's position in the edge's place of a vjp. saved: (version cell, version, whose) of what the vjps keep.
    outputs: (shape, dtype) of each value where the rule has several.
    """

    __slots__ = ("edges", "joint", "order", "outputs", "rule", "saved")

    def __init__(self, rule: Rule, edges: list, joint: Callable | None, saved: list, outputs: list | None):
        self.rule = rule
        self.order = next(_order)
        self.edges: list | None = edges
        self.joint = joint
        self.saved = saved
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

    def __init__(self, array: np.ndarray, requires_grad: bool = False, node: Node | None = None, index: int = 0):
        self.array = array
        self.grad: Tensor | None = None
        self.node = node
        self.index = index
        self.cell = [0, False]
        self._requires_grad = requires_grad

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
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "biu":
            raise TypeError(f"only an integer tensor of one element is an index, got {self.dtype}: write int(x)")
        return int(self.item())

    def __format__(self, specification: str) -> str:
        return format(self.item() if not self.ndim and specification else repr(self), specification)

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
        body = np.array2string(self.array, separator=", ", prefix="tensor(", precision=4, threshold=1000)
        words = [body]
        if self.array.dtype not in (DEFAULT_FLOAT, np.int64, np.bool_):
            words.append(f"dtype={self.array.dtype}")
        if self.node is not None:
            words.append(f"grad_fn={self.node}")
        elif self._requires_grad:
            words.append("requires_grad=True")
        return f"tensor({', '.join(words)})"

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
        keeps = rule.saved and any(0 in saved.arguments for saved in rule.saved.values())
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
                f"in-place {rule.name} on read-only memory (expanded, or shared with other processes): write x.clone() first"
            )
        np.copyto(self.array, new.array, casting="same_kind")
        self.cell[0] += 1
        self.node, self.index, self._requires_grad = new.node, new.index, new._requires_grad
        return self


def restore(kind: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    """A Tensor from what pickle kept of it."""
    out = kind.__new__(kind)
    Tensor.__init__(out, array, requires_grad)
    return out


def check_can_require_grad(dtype: np.dtype) -> None:
    if dtype.kind not in "fc":
        raise RuntimeError(f"only floating-point tensors can require grad, got {dtype}: write x.float() first")


# ----- calling a rule -----


def literal(x: Any) -> Any:
    """An operator's input as numpy takes it: an array, or a Python number that changes no dtype."""
    if isinstance(x, np.ndarray | int | float | complex):
        return x
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(
        f"an operator takes tensors, numpy arrays and numbers, got {type(x).__name__}: write pargrad.tensor(...)"
    )


def result_dtype(arrays: list[Any]) -> np.dtype:
    """torch's promotion: the dtype of arrays, then of 0-d arrays, then of literals, each only to a higher category."""
    result = None
    for rank in (
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and x.ndim],
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and not x.ndim],
        [CATEGORY_DEFAULT[CATEGORY[np.min_scalar_type(x).kind]] for x in arrays if not isinstance(x, np.ndarray)],
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
        elif type(x) is not float and type(x) is not int:
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
                f"{rule.name}: expected tensors of one dtype, got {' and '.join(sorted(kinds)) or 'a number'}: write x.float() or x.to(y.dtype)"
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
    arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
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

    value, *vjps = result
    several = type(value) is tuple
    values = tuple(as_array(each) for each in value) if several else (as_array(value),)
    edges: list = []
    saved: list = []
    joint = None
    if _mode.grad and values[0].dtype.kind in "fc":
        joint = vjps[0] if rule.joint else None
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor) and x._requires_grad:
                vjp = i if joint else vjps[i]
                if vjp is not None:
                    target = x if x.node is None else x.node
                    edges.append((vjp, target, x.index, x.array.shape, x.array.dtype))

    if not edges:
        outputs = tuple(Tensor(each) for each in values)
    else:
        shapes = [(each.shape, each.dtype) for each in values] if several else None
        node = Node(rule, edges, joint, saved, shapes)
        outputs = tuple(Tensor(each, each.dtype.kind in "fc", node, i) for i, each in enumerate(values))
        for vjp in (joint,) if joint else {edge[0] for edge in edges} if len(edges) > 1 else (edges[0][0],):
            remember(rule, vjp, inputs, outputs, saved)
    if rule.view and isinstance(inputs[0], Tensor) and np.may_share_memory(values[0], arrays[0]):
        outputs[0].cell = inputs[0].cell
        outputs[0].cell[1] = True
    return outputs if several else outputs[0]


def as_array(value: Any) -> np.ndarray:
    return value if type(value) is np.ndarray else np.asarray(value)  # numpy gives scalars where arrays were 0-d


def remember(rule: Rule, vjp: Callable, inputs: tuple, outputs: tuple[Tensor, ...], saved: list) -> None:
    """Notes the versions of the tensors that a vjp keeps, so that backward can tell when one was overwritten."""
    arguments, local = rule.saved[vjp.__code__]
    for i in range(len(inputs)) if rule.variadic and arguments else arguments:
        x = inputs[i]
        if isinstance(x, Tensor):
            saved.append((x.cell, x.cell[0], i))
    for i in local:
        kept = vjp.__closure__[i].cell_contents  # type: ignore[index]
        for output in outputs:
            if kept is output.array:
                saved.append((output.cell, output.cell[0], None))


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
    pending: dict[Any, Any] = {}
    owned: set[Any] = set()  # targets whose pending array was made here, so that it may be added to in place

    def contribute(target: Any, index: int, gradient: np.ndarray, fresh: bool) -> None:
        key = target if type(target) is not Node or target.outputs is None else (target, index)
        before = pending.get(key)
        if before is None:
            pending[key] = gradient
            if fresh:
                owned.add(key)
        elif key in owned:
            np.add(before, gradient, out=before)
        else:
            pending[key] = as_array(before + gradient)
            owned.add(key)

    contribute(root.node, root.index, gradient, False)
    for node in sorted(nodes, key=attrgetter("order"), reverse=True):
        if node.outputs is None:
            owned.discard(node)
            g = pending.pop(node, None)
            reached = g is not None
        else:
            parts = [pending.pop((node, i), None) for i in range(len(node.outputs))]
            owned.difference_update((node, i) for i in range(len(parts)))
            reached = any(part is not None for part in parts)
            g = tuple(np.zeros(*each) if part is None else part for part, each in zip(parts, node.outputs))
        edges, saved, joint = node.edges, node.saved, node.joint
        check_versions(node, saved)
        gradients = joint(g) if joint and reached else None
        for vjp, target, index, shape, dtype in edges:
            if reached:
                out = gradients[vjp] if joint else vjp(g)
                if type(out) is not np.ndarray:
                    out = np.asarray(out)
                if out.shape != shape:
                    out = unbroadcast(out, shape)
                if out.dtype is not dtype:
                    out = out.astype(dtype, copy=False)
                # An array without a base that is not the incoming one was made by this very vjp.
                contribute(target, index, out, out is not g and out.base is None)
            if type(target) is not Node:
                uses[target] -= 1
                if not uses[target] and target in pending:
                    accumulate(target, pending.pop(target), target in owned)
        if not retain_graph:
            node.edges = node.joint = None
            node.saved = []
        del edges, saved, joint, gradients, g


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


def check_versions(node: Node, saved: list) -> None:
    for cell, version, argument in saved:
        if cell[0] != version:
            whose = "its value" if argument is None else f"its argument {argument}"
            raise RuntimeError(
                f"{node.rule.name} saved {whose} for backward, and an in-place operator has changed it since "
                f"(version {cell[0]}, expected {version}): write that operator out of place (x = x + y), or on x.clone()"
            )
