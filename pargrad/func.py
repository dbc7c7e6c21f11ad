"""Functions of functions: gradients, Jacobians and maps over a leading axis, as in `torch.func`.

They nest in any order. Each takes a gradient with respect to tensors of its own, so that what an inner one
differentiates by is never confused with what an outer one does.
https://docs.pytorch.org/docs/stable/func.api.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad import stacking, tree
from pargrad.graph import reach, run_backward
from pargrad.modes import enable_grad, mode
from pargrad.nn.module import Module
from pargrad.rules.shapes import expand, reshape, stack
from pargrad.rules.stacks import NotStackable
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "value_and_grad",
    "vjp",
    "vmap",
]

Argnums = int | tuple[int, ...]


# ----- tensors of one's own -----


def fresh(x: Any) -> Tensor:
    """The same values as a tensor that requires grad, and whose gradient is nobody else's."""
    if not isinstance(x, Tensor):
        raise TypeError(f"a derivative is taken by tensors, got {type(x).__name__}: write pargrad.tensor(...)")
    if x.dtype.kind not in "fc":
        raise TypeError(f"a derivative is taken by floating-point tensors, got {x.dtype}: write x.float()")
    level = stacking.current()
    if level is not None and not x.stacked:  # inside vmap every slice has a gradient of its own
        x = stacking.enter(apply(expand, x, size=(level.count, *x.shape)), 0)
    if x.requires_grad:
        return apply(reshape, x, shape=x.shape)
    out = x.detach()
    out.requires_grad = True
    return out


def depends_on_others(outputs: list[Tensor], own: list[Tensor]) -> bool:
    """Whether outputs were computed from anything that requires grad beside one's own tensors."""
    _, uses = reach({x.key: None for x in outputs if x.requires_grad})
    return not uses.keys() <= {x.key for x in own}


def gradients(outputs: list[Tensor], seeds: list[Any], own: list[Tensor], create_graph: bool) -> list[Tensor]:
    """The gradient of each of one's own tensors; zeros where the outputs do not depend on it."""
    roots: dict[Any, Any] = {}
    for output, seed in zip(outputs, seeds):
        if seed.stacked and not output.stacked:
            raise NotStackable("gradients for each slice, of what all of them share")
        if output.requires_grad:
            given = seed if create_graph else memory(seed)
            roots[output.key] = roots[output.key] + given if output.key in roots else given
    found: list[Any] = [None] * len(own)
    wanted = {x.key: place for place, x in enumerate(own)}
    run_backward(roots, lambda place, g, _: found.__setitem__(place, g), True, create_graph, wanted)
    return [like(x, np.zeros_like(memory(x)) if g is None else g) for x, g in zip(own, found)]


def memory(x: Tensor) -> np.ndarray:
    return x.slices if isinstance(x, Stacked) else x.array


def like(x: Tensor, gradient: Any) -> Tensor:
    return gradient if isinstance(gradient, Tensor) else type(x)(gradient) if x.stacked else Tensor(gradient)


def ones_like(x: Tensor) -> Tensor:
    return like(x, np.ones_like(memory(x)))


class Differentiated:
    """A call of `func` on tensors of its own in the place of some arguments: its outputs, and their gradients."""

    def __init__(self, func: Callable, args: tuple, named: dict, argnums: Argnums, has_aux: bool):
        places = (argnums,) if isinstance(argnums, int) else argnums
        for place in places:
            if not -len(args) <= place < len(args):
                raise RuntimeError(f"argnums has {place}, but the function was given {len(args)} positional arguments")
        self.recording = mode.grad
        self.single = isinstance(argnums, int)
        self.given = [args[place] for place in places]
        self.aux: Any
        with enable_grad():
            inputs = [tree.mapped(fresh, each) for each in self.given]
            arguments = list(args)
            for place, each in zip(places, inputs):
                arguments[place] = each
            result = func(*arguments, **named)
            self.output, self.aux = result if has_aux else (result, ())
            self.own = list(tree.leaves(inputs))
            self.outputs = list(tree.leaves(self.output))
            for x in self.outputs:
                if not isinstance(x, Tensor):
                    raise RuntimeError(f"expected a function that returns tensors, got {type(x).__name__}")
            self.linked = self.recording and depends_on_others(self.outputs, self.own)

    def gradient(self, seeds: list[Any], linked: bool | None = None) -> Any:
        """The gradient in the form of the arguments that it is taken by; part of the outer graph where there is one."""
        linked = self.linked if linked is None else linked
        with enable_grad():
            found = gradients(self.outputs, seeds, self.own, linked)
        filled = tree.filled(self.given, found)
        return filled[0] if self.single else tuple(filled)

    def released(self, values: Any) -> Any:
        """Values as the outer graph sees them: outside of this one, where they depend on nothing else."""
        return values if self.linked else tree.mapped(lambda x: x.detach() if isinstance(x, Tensor) else x, values)


def check_scalar(name: str, output: Any) -> None:
    if not isinstance(output, Tensor) or output.shape != ():
        got = f"shape {output.shape}" if isinstance(output, Tensor) else type(output).__name__
        raise RuntimeError(
            f"{name}() takes a function that returns one number as a 0-d tensor, got {got}: write .sum()"
        )


# ----- gradients -----


def grad_and_value(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """A function that gives (gradient, value), or (gradient, (value, aux)), of one that returns a 0-d tensor.

    https://docs.pytorch.org/docs/stable/generated/torch.func.grad_and_value.html
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **named: Any) -> Any:
        call = Differentiated(func, args, named, argnums, has_aux)
        check_scalar("grad", call.output)
        gradient = call.gradient([ones_like(call.output)])
        value = call.released(call.output)
        return gradient, (value, call.released(call.aux)) if has_aux else value

    return wrapper


def value_and_grad(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """`grad_and_value` with the value first, as JAX has it."""
    both = grad_and_value(func, argnums, has_aux)
    return functools.wraps(func)(lambda *args, **named: both(*args, **named)[::-1])


def grad(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """A function that gives the gradient, or (gradient, aux), of one that returns a 0-d tensor.

    argnums: which arguments it is taken by, each a tensor or a nest of them; of several, the gradient is a tuple.
    https://docs.pytorch.org/docs/stable/generated/torch.func.grad.html

    >>> pg.func.grad(lambda x: (x**3).sum())(pg.tensor([1.0, 2.0]))
    tensor([ 3., 12.])
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **named: Any) -> Any:
        gradient, value = both(*args, **named)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """(output, function from a cotangent of its form to a tuple of gradients), or the two and aux.

    https://docs.pytorch.org/docs/stable/generated/torch.func.vjp.html
    """
    call = Differentiated(func, primals, {}, tuple(range(len(primals))), has_aux)

    def pulled_back(*cotangents: Any) -> tuple:
        seeds = list(tree.leaves(cotangents))
        for seed, output in zip(seeds, call.outputs, strict=True):
            if seed.shape != output.shape:
                raise RuntimeError(f"expected a cotangent of shape {output.shape}, got {seed.shape}")
        linked = mode.grad and (call.linked or any(seed.requires_grad for seed in seeds))
        return call.gradient(seeds, linked)

    output = call.released(call.output)
    return (output, pulled_back, call.released(call.aux)) if has_aux else (output, pulled_back)


def jvp(func: Callable, primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False) -> tuple:
    """(output, directional derivative along the tangents), or the two and aux.

    Two backward walks: the gradient is linear in the cotangent, and the derivative of that, along the tangents, is
    this one. https://docs.pytorch.org/docs/stable/generated/torch.func.jvp.html
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or len(primals) != len(tangents):
        raise RuntimeError("jvp() takes primals and tangents as tuples of one length: write jvp(f, (x,), (v,))")
    call = Differentiated(func, primals, {}, tuple(range(len(primals))), has_aux)
    directions = list(tree.leaves(tangents))
    for x, v in zip(call.own, directions, strict=True):
        if x.shape != v.shape:
            raise RuntimeError(f"jvp(): expected a tangent of shape {x.shape}, got {v.shape}")
    outer = call.linked or (call.recording and any(v.requires_grad for v in directions))
    with enable_grad():
        cotangents = [fresh(ones_like(x)) for x in call.outputs]
        linear = gradients(call.outputs, cotangents, call.own, True)
        pushed = gradients(linear, directions, cotangents, outer)
    output = call.released(call.output)
    forward = tree.filled(call.output, pushed)
    return (output, forward, call.released(call.aux)) if has_aux else (output, forward)


# ----- Jacobians -----


def basis(x: Tensor) -> list[Tensor]:
    """For each element of x a tensor that is 1 there and 0 elsewhere."""
    units = np.eye(x.numel(), dtype=x.dtype).reshape(x.numel(), *x.shape)
    return [like(x, np.broadcast_to(unit, memory(x).shape).copy()) for unit in units]


def stacked(rows: list[Tensor], shape: tuple[int, ...], dim: int) -> Tensor:
    """Tensors stacked along a new dimension, which is then given a shape."""
    if not rows:
        raise RuntimeError("a Jacobian of nothing: the function has no elements")
    joined = apply(stack, *rows, dim=dim)
    return apply(reshape, joined, shape=(*joined.shape[:dim], *shape, *joined.shape[dim + 1 :]))


def jacrev(func: Callable, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Callable:
    """A function that gives the Jacobian, of shape (*output, *input): one backward walk for each output element.

    chunk_size is torch's, and changes nothing here. https://docs.pytorch.org/docs/stable/generated/torch.func.jacrev.html

    >>> pg.func.jacrev(lambda x: x * x)(pg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **named: Any) -> Any:
        call = Differentiated(func, args, named, argnums, has_aux)

        def of_output(place: int, output: Tensor) -> Any:
            rows = []
            for unit in basis(output):
                seeds = [unit if i == place else like(x, np.zeros_like(memory(x))) for i, x in enumerate(call.outputs)]
                rows.append(call.gradient(seeds))
            return tree.mapped(lambda *column: stacked(list(column), output.shape, 0), rows[0], *rows[1:])

        found = [of_output(place, output) for place, output in enumerate(call.outputs)]
        jacobian = tree.filled(call.output, [Held(each) for each in found])
        result = tree.mapped(lambda held: held.value, jacobian)
        return (result, call.released(call.aux)) if has_aux else result

    return wrapper


class Held:
    """A nest as a leaf of another."""

    def __init__(self, value: Any):
        self.value = value


def jacfwd(func: Callable, argnums: int = 0, has_aux: bool = False, *, chunk_size: int | None = None,
           randomness: str = "error") -> Callable:  # fmt: skip
    """A function that gives the Jacobian, of shape (*output, *input): one `jvp` for each input element.

    https://docs.pytorch.org/docs/stable/generated/torch.func.jacfwd.html
    """
    if not isinstance(argnums, int):
        raise TypeError(f"jacfwd() takes one argnum here, got {argnums!r}: write jacrev for several")

    @functools.wraps(func)
    def wrapper(*args: Any, **named: Any) -> Any:
        x = args[argnums]

        def of_one(x: Any) -> Any:
            return func(*args[:argnums], x, *args[argnums + 1 :], **named)

        columns = [jvp(of_one, (x,), (unit,), has_aux=has_aux) for unit in basis(x)]
        first = columns[0][1]
        result = tree.mapped(
            lambda *column: stacked(list(column), x.shape, column[0].ndim), first, *(each[1] for each in columns[1:])
        )
        return (result, columns[0][2]) if has_aux else result

    return wrapper


def hessian(func: Callable, argnums: Argnums = 0) -> Callable:
    """A function that gives all second derivatives, of shape (*output, *input, *input).

    https://docs.pytorch.org/docs/stable/generated/torch.func.hessian.html

    >>> pg.func.hessian(lambda x: (x**3).sum())(pg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(jacrev(func, argnums), argnums)


def hvp(func: Callable, inputs: Any, v: Any) -> tuple[Any, Any]:
    """(value, Hessian times v) of a function that returns a 0-d tensor, without the Hessian.

    inputs, v: a tensor, or tuples of them. https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.hvp.html
    """
    given, along = (inputs, v) if isinstance(inputs, tuple) else ((inputs,), (v,))
    both = grad_and_value(func, tuple(range(len(given))))
    (_, value), (product, _) = jvp(both, given, along)
    return value, product if isinstance(inputs, tuple) else product[0]


# ----- modules as functions -----


def functional_call(
    module: Module, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict | None = None, *,
    tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """module(*args), with these tensors, by name, in the place of its parameters and buffers for the time of the call.

    tie_weights: a tensor that the module has under several names is replaced under all of them. strict: every
    parameter and buffer must be given. https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html

    >>> layer = nn.Linear(2, 1)
    >>> weights = {"weight": pg.tensor([[1.0, 2.0]]), "bias": pg.tensor([0.5])}
    >>> pg.func.functional_call(layer, weights, pg.ones(2))
    tensor([3.5000])
    """
    dicts = [parameter_and_buffer_dicts] if isinstance(parameter_and_buffer_dicts, dict) else parameter_and_buffer_dicts
    given = {name: value for each in dicts for name, value in each.items()}
    own = {
        f"{path}.{name}" if path else name: (owner, name, x)
        for path, owner in Module.named_modules(module, remove_duplicate=False)
        for name, x in vars(owner).items()
        if isinstance(x, Tensor)
    }
    unknown = sorted(given.keys() - own.keys())
    missing = sorted(own.keys() - given.keys()) if strict else []
    if unknown or missing:
        raise RuntimeError(
            f"functional_call(): unexpected names {unknown}, missing names {missing}; expected of {list(own)}"
        )
    if tie_weights:
        by_tensor = {id(own[name][2]): value for name, value in given.items()}
        given = {name: by_tensor[id(x)] for name, (_, _, x) in own.items() if id(x) in by_tensor} | given
    try:
        for name, value in given.items():
            owner, attribute, _ = own[name]
            setattr(owner, attribute, value)
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for name in given:
            owner, attribute, x = own[name]
            setattr(owner, attribute, x)


def stack_module_state(models: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of modules of one kind, each by name, stacked along a new first dimension, as leaves.

    For an ensemble: vmap(lambda p, b, x: functional_call(model, (p, b), (x,)), in_dims=(0, 0, None)).
    https://docs.pytorch.org/docs/stable/generated/torch.func.stack_module_state.html
    """
    models = list(models)
    if not models or any(type(model) is not type(models[0]) for model in models):
        raise RuntimeError("stack_module_state: expected modules of one class, at least one")
    if any(model.training != models[0].training for model in models):
        raise RuntimeError("stack_module_state: expected modules that all train, or none: write model.eval()")

    def stacked(kind: Callable) -> dict[str, Tensor]:
        rows = [dict(kind(model)) for model in models]
        found = {}
        for name, first in rows[0].items():
            values = np.stack([row[name].detach().array for row in rows])
            found[name] = Tensor(values, first.requires_grad)
        return found

    return stacked(Module.named_parameters), stacked(Module.named_buffers)


# ----- one more leading axis -----


def vmap(
    func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None
) -> Callable:
    """A function on batches of one on single examples, with the bits of one example at a time.

    in_dims: for each argument, or nest of them, the dimension that counts the examples, or None where all share it.
    Runs in one call where every operator can, else example by example, with the same results. randomness: "error"
    refuses random draws, "different" gives each example its own, "same" gives all the same.
    https://docs.pytorch.org/docs/stable/generated/torch.func.vmap.html

    >>> x, y = pg.arange(6.0).reshape(3, 2), pg.ones(3, 2)
    >>> pg.vmap(pg.dot)(x, y)
    tensor([1., 5., 9.])
    >>> per_example = pg.vmap(pg.func.grad(lambda row: (row**2).sum()))
    >>> per_example(x).tolist()
    [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"vmap(): randomness is 'error', 'different' or 'same', got {randomness!r}")

    @functools.wraps(func)
    def wrapper(*args: Any, **named: Any) -> Any:
        dims = tree.spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, args)
        pairs = [(x, dim) for x, dim in zip(tree.leaves(args), tree.leaves(dims)) if dim is not None]
        for x, dim in pairs:
            if not isinstance(x, Tensor) or not -x.ndim <= dim < x.ndim:
                got = f"a tensor of shape {x.shape}" if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"vmap(): in_dims is {dim} for {got}: write None for what all examples share")
        counts = {x.shape[dim] for x, dim in pairs}
        if len(counts) != 1:
            raise ValueError(f"vmap(): expected one number of examples along in_dims, got {sorted(counts)}")
        return stacking.mapped(func, args, dims, named, out_dims, counts.pop(), randomness)

    return wrapper
