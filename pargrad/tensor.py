"""The engine: a Tensor is an array that remembers the operator it came from.

`apply` calls a rule on arrays and, when an input needs a gradient, records a Node: the vjps of those inputs and
where each gradient goes. `graph.run_backward` walks those memories.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from pargrad import printing
from pargrad.graph import Hooks, Node, RemovableHandle, Trace, as_array, run_backward
from pargrad.modes import INFERENCE, anomaly, mode, set_grad_enabled
from pargrad.promotion import CATEGORY_DEFAULT, FLOAT32, FLOAT64, coerce, explain, from_sizes_or_data
from pargrad.rules.table import Rule


class Tensor:
    """An n-dimensional array with a gradient. Made by `pargrad.tensor`, `zeros`, ... or by operators on others.

    Tensor(2, 3) and Tensor([1, 2]), as torch's old scripts have them, are of the default dtype; a numpy array keeps its
    own, unlike there, and its memory: the engine makes tensors so. https://docs.pytorch.org/docs/stable/tensors.html
    array: its memory, a numpy array. grad: the accumulated gradient of a leaf, a Tensor or None. node, index: the
    operator and output it came from. cell: [version, views of the memory]; views and `detach` share the cell.
    origin: of a view, what it is a view of, and how. hooks: of a leaf; other tensors' are in their nodes.
    """

    # What every tensor has is in slots; the rest are attributes of the class until a tensor has its own.
    __slots__ = ("__dict__", "__weakref__", "_cell", "_requires_grad", "array", "index", "node")
    grad: Tensor | None = None
    origin: Origin | None = None
    hooks: Hooks | None = None
    stacked = False  # a Stacked says True, and then knows how to `apply` a rule

    def __init__(self, array: Any = (), requires_grad: Any = False, node: Any = None, index: int = False, *more: int):
        if not isinstance(array, np.ndarray | np.generic):
            array = from_sizes_or_data(array, requires_grad, node, index, *more)
            requires_grad, node, index = False, None, 0
        self.array = array
        self.node = node
        self.index = index
        self._cell: list | None = None
        self._requires_grad = requires_grad

    if TYPE_CHECKING:  # `operators` gives Tensor a method for each rule, and these
        T: Tensor

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...

        __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = __and__ = __or__ = __add__
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __rmatmul__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__

    # ----- what it is -----

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension: a tuple, where torch has a Size, which is one, too."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """numpy's dtype of the elements, which has torch's name: pargrad.float32."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return self.array.ndim

    @property
    def is_leaf(self) -> bool:
        """Whether no operator of a graph made it: gradients end here."""
        return self.node is None

    @property
    def _base(self) -> Tensor | None:
        """Of a view, the tensor whose memory it looks at."""
        return None if self.origin is None else self.origin.root

    @property
    def grad_fn(self) -> Node | None:
        """The operator that made it, a node of the graph; None of a leaf."""
        return self.node

    @property
    def requires_grad(self) -> bool:
        """Whether operators on it are recorded; it can be set on leaves of floating-point or complex numbers."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
            raise RuntimeError("requires_grad of a computed tensor cannot be switched off: write x.detach()")
        if value:
            check_can_require_grad(self.dtype)
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets `requires_grad`, and gives the tensor itself."""
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
    def cell(self) -> list:
        """[version, views], made when it is first asked for."""
        if self._cell is None:
            self._cell = [0, None]
        return self._cell

    @cell.setter
    def cell(self, cell: list) -> None:
        self._cell = cell

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
        """The elements as Python's numbers, in lists as deep as there are dimensions."""
        return self.array.tolist()

    def dim(self) -> int:
        """How many dimensions it has."""
        return self.array.ndim

    def numel(self) -> int:
        """How many elements it has."""
        return self.array.size

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one dimension."""
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
        if self.array.dtype not in ((CATEGORY_DEFAULT[2],) if empty else CATEGORY_DEFAULT.values()):
            words.append(f"dtype={self.array.dtype}")
        if self.node is not None:
            words.append(f"grad_fn={self.node}")
        elif self._requires_grad:
            words.append("requires_grad=True")
        return printing.call("tensor", self.array, words)

    # ----- its gradient -----

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Adds d(self)/d(leaf), times `gradient`, to `.grad` of every leaf that requires grad.

        gradient: of self's shape; may be left out where self has one element. retain_graph: keep what the graph
        saved, so that it can be walked again. create_graph: record how the gradients come about, so that they have
        gradients. inputs: the tensors whose `.grad` alone is to be added to, leaves or not.
        https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html

        >>> x = pg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
        """
        if inputs is not None:
            inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
            if not inputs:
                raise RuntimeError("backward(inputs=[]) would give no tensor a gradient: leave `inputs` out")
        retain = create_graph if retain_graph is None else retain_graph
        seed = seed_gradient(self, gradient, create_graph)
        wanted = None if inputs is None else wanted_keys(inputs)
        with set_grad_enabled(create_graph):
            run_backward({self.key: seed}, accumulate_grad, retain, create_graph, wanted)

    @property
    def key(self) -> Any:
        """What this tensor's gradient goes by in a walk."""
        node = self.node
        return self if node is None else node if node.outputs is None else (node, self.index)

    def retain_grad(self) -> None:
        """Lets `.grad` be filled in for a tensor that is no leaf."""
        if not self._requires_grad:
            raise RuntimeError("retain_grad() of a tensor that does not require grad: it will never have a gradient")
        if self.node is not None:
            self._hooks().retains = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether it is no leaf and was told to keep its gradient: `retain_grad`."""
        hooks = self.node and self.node.hooks and self.node.hooks.get(self.index)
        return bool(hooks and hooks.retains is not None and hooks.retains() is self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Calls `hook` with the gradient when it is whole; what it returns, if anything, is put in its place.

        https://docs.pytorch.org/docs/stable/generated/torch.Tensor.register_hook.html
        """
        if not self._requires_grad:
            raise RuntimeError("register_hook() on a tensor that does not require grad: it will never have a gradient")

        def on_gradient(gradient: Any) -> Any:
            given = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
            out = hook(given)
            if out is None:
                return gradient
            if not isinstance(out, Tensor) or out.shape != given.shape:
                got = f"shape {out.shape}" if isinstance(out, Tensor) else type(out).__name__
                raise RuntimeError(f"a hook returns None or a tensor of shape {given.shape}, got {got}")
            if out.dtype != given.dtype:
                raise RuntimeError(f"a hook returns None or a tensor of {given.dtype}, got {out.dtype}")
            return out if isinstance(gradient, Tensor) else out.array

        return RemovableHandle(self._hooks().functions, on_gradient)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Calls `hook` with this leaf each time after its `.grad` has been added to."""
        if self.node is not None or not self._requires_grad:
            raise RuntimeError(
                "register_post_accumulate_grad_hook() takes a leaf that requires grad: use register_hook()"
            )
        return RemovableHandle(self._hooks().after, hook)

    def _hooks(self) -> Hooks:
        if self.node is None:
            self.hooks = self.hooks or Hooks()
            return self.hooks
        if self.node.hooks is None:
            self.node.hooks = {}
        return self.node.hooks.setdefault(self.index, Hooks())


class Origin(NamedTuple):
    """How a view looks at memory: through these rules, one after the other, with their settings, at what `root` has."""

    root: Tensor
    path: tuple[tuple[Rule, dict[str, Any]], ...]


def restore(kind: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    """A Tensor from what pickle kept of it, in memory of its own: protocol 5 may hand over another's, or read-only."""
    out = kind.__new__(kind)
    Tensor.__init__(out, array if array.base is None else array.copy(), requires_grad)
    return out


def check_can_require_grad(dtype: np.dtype) -> None:
    if dtype.kind not in "fc":
        raise RuntimeError(f"only floating-point tensors can require grad, got {dtype}: write x.float() first")


# ----- calling a rule -----


def apply(rule: Rule, *inputs: Any, **settings: Any) -> Any:
    """Calls a rule on Tensors (arrays and numbers are constants) and records it where a gradient will be wanted."""
    return call(rule, inputs, settings)


def call(rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Any:
    """`apply`, with the inputs as a tuple and the settings as a dict."""
    arrays = []
    needed = False
    dtype = None
    uniform = True
    for x in inputs:
        if isinstance(x, Tensor):
            if x.stacked:
                return x.apply(rule, inputs, settings)
            array = x.array
            arrays.append(array)
            if x._requires_grad:
                needed = True
            if dtype is None:
                dtype = array.dtype
            elif dtype is not array.dtype:
                uniform = False
        else:
            arrays.append(x)
            if type(x) is not float or not rule.literals:
                uniform = False
    # Floats of one width and weak literals are the way of nearly every call: there is nothing to promote.
    if not uniform or (dtype is not FLOAT32 and dtype is not FLOAT64):
        arrays = [as_array(x) for x in arrays] if rule.dtype == "as is" else coerce(rule, arrays)
    try:
        result = rule.function(*arrays, **settings) if settings else rule.function(*arrays)
    except (ValueError, IndexError) as error:
        raise explain(rule, arrays, settings, error) from None
    if not rule.differentiable:
        return constant(as_array(result))

    edges = edges_of(rule, inputs, result) if needed and mode.grad else None
    value = result[0]
    if type(value) is tuple:
        return several(rule, inputs, settings, result, edges) if edges else tuple(map(constant, value))
    array = value if type(value) is np.ndarray else np.asarray(value)  # numpy gives scalars where arrays were 0-d
    if edges and array.dtype.kind in "fc":
        node = Node(rule, edges)
        output = Tensor(array, True, node)
        if rule.joint:
            node.joint = result[1]
        if rule.keeps:
            remember(node, inputs, (output,), (value,), settings)
        if array.dtype.kind == "c":
            node.conjugate = rule.holomorphic
        if anomaly.enabled:
            node.trace = Trace.of(inputs, (output,))
    else:
        output = constant(array)
    if rule.view and isinstance(inputs[0], Tensor) and shares_memory(array, arrays[0]):
        note_view(output, inputs[0], rule, settings)
    return output


def answer(x: Tensor, question: Callable[[np.ndarray], Any]) -> Any:
    """What a question about a tensor's values comes to; about a stack's it is asked of all slices at once."""
    return x.answer(question) if x.stacked else question(x.array)


def edges_of(rule: Rule, inputs: tuple, result: Any) -> list:
    """For each input that needs a gradient, its vjp and where what that gives goes."""
    edges: list = []
    for place, x in enumerate(inputs, 1):
        if isinstance(x, Tensor) and x._requires_grad:
            vjp = place - 1 if rule.joint else result[place]
            if vjp is not None:
                source, array = x.node, x.array
                if source is None:
                    edges.append((vjp, x, True, array.shape, array.dtype))
                else:
                    key = source if source.outputs is None else (source, x.index)
                    edges.append((vjp, key, False, array.shape, array.dtype))
    return edges


def several(rule: Rule, inputs: tuple, settings: dict[str, Any], result: Any, edges: list) -> tuple[Tensor, ...]:
    """The values of a rule that gives more than one, as outputs of one node."""
    arrays = [as_array(value) for value in result[0]]
    kinds = {array.dtype.kind for array in arrays}
    if not kinds & {"f", "c"}:
        return tuple(map(constant, arrays))
    node = Node(rule, edges)
    node.outputs = [(array.shape, array.dtype) for array in arrays]
    node.conjugate = rule.holomorphic and "c" in kinds
    if rule.joint:
        node.joint = result[1]
    outputs = tuple(
        Tensor(array, True, node, i) if array.dtype.kind in "fc" else constant(array) for i, array in enumerate(arrays)
    )
    if rule.keeps:
        remember(node, inputs, outputs, result[0], settings)
    if anomaly.enabled:
        node.trace = Trace.of(inputs, outputs)
    return outputs


def constant(value: Any) -> Tensor:
    """A value that nothing was recorded of."""
    out = Tensor(value if type(value) is np.ndarray else np.asarray(value))  # numpy gives scalars where arrays were 0-d
    if mode.inference:
        out.cell = INFERENCE
    return out


def shares_memory(view: np.ndarray, array: np.ndarray) -> bool:
    """Whether one looks at the memory of the other, also where there are no elements in it."""
    base = view.base
    return np.may_share_memory(view, array) or (base is not None and (base is array or base is array.base))


def note_view(output: Tensor, input: Tensor, rule: Rule, settings: dict[str, Any]) -> None:
    """Makes the output known as a view: it shares the version, and follows what happens to the memory's graph."""
    cell = output.cell = input.cell
    if cell is INFERENCE:
        return
    root, path = input.origin or (input, ())
    output.origin = Origin(root, (*path, (rule, settings)))
    views = cell[1]
    if views is None:
        cell[1] = [weakref.ref(output)]
    else:
        count = len(views)
        if count >= 16 and not count & (count - 1):  # now and then, forget the dead
            views[:] = [view for view in views if view() is not None]
        views.append(weakref.ref(output))


def remember(node: Node, inputs: tuple, outputs: Any, values: tuple, settings: dict[str, Any]) -> None:
    """Notes what the vjps keep and in which version, so that backward can tell when one was overwritten."""
    rule, saved = node.rule, []
    if rule.plain is not None:
        keep_inputs(node, inputs, settings)
    for edge in [[node.joint]] if rule.joint else node.edges or ():
        vjp: Any = edge[0]
        keeps = rule.saved[vjp.__code__]
        if keeps is None:
            continue
        arguments, local = keeps
        for i in range(len(inputs)) if rule.variadic and arguments else arguments:
            x = inputs[i]
            if isinstance(x, Tensor):
                cell = x._cell
                saved.append((cell, 0 if cell is None else cell[0], i, x))
        for i in local:
            kept = vjp.__closure__[i].cell_contents
            for place, value in enumerate(values):
                if kept is value:
                    cell = outputs[place].cell
                    saved.append((cell, cell[0], -1 - place, kept))
                    break
            else:
                if isinstance(kept, np.ndarray | np.generic) and kept.dtype.kind in "fc":
                    # Made of the inputs on the way to the value: for second derivatives it is made again.
                    keep_inputs(node, inputs, settings)
    node.saved = saved


def keep_inputs(node: Node, inputs: tuple, settings: dict[str, Any]) -> None:
    node.inputs, node.settings = inputs, settings
    node.versions = tuple(x._version if isinstance(x, Tensor) else 0 for x in inputs)


# ----- backward -----


def seed_gradient(root: Tensor, gradient: Any, create_graph: bool = False) -> Any:
    """The gradient that a backward walk starts with, checked: an array, or a Tensor where a graph is created."""
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
        if root.dtype.kind == "c":
            raise RuntimeError(
                f"backward() without a gradient takes a real tensor, got {root.dtype}: "
                "write x.abs().backward() or x.backward(gradient)"
            )
        ones = np.ones_like(root.array)
        return Tensor(ones) if create_graph else ones
    given = gradient if isinstance(gradient, Tensor) else Tensor(np.asarray(gradient))
    if given.shape != root.shape:
        raise RuntimeError(f"backward(gradient): expected shape {root.shape}, got {given.shape}")
    if create_graph:
        return given if given.dtype == root.dtype else given.to(root.dtype)
    return given.array.astype(root.dtype, copy=False)


def wanted_keys(inputs: list[Tensor]) -> dict[Any, Tensor]:
    for i, x in enumerate(inputs):
        if not x._requires_grad:
            raise RuntimeError(
                f"input {i} of shape {x.shape} does not require grad: write x.requires_grad_() before computing with it"
            )
    return {x.key: x for x in inputs}


def accumulate_grad(leaf: Tensor, gradient: Any, owned: bool) -> None:
    """Adds to `leaf.grad`. An array that somebody else may hold is copied, never kept."""
    if isinstance(gradient, Tensor):  # recorded: the sum must be, too
        leaf.grad = gradient.clone() if leaf.grad is None else leaf.grad + gradient
    elif leaf.grad is None:
        leaf.grad = Tensor(gradient if owned else gradient.copy())
    else:
        np.add(leaf.grad.array, gradient, out=leaf.grad.array)
        leaf.grad.cell[0] += 1
    if leaf.hooks is not None:
        for function in list(leaf.hooks.after.values()):
            function(leaf)


Hooks.receive = staticmethod(accumulate_grad)  # type: ignore[assignment]
