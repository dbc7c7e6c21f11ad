"""A Module is an object whose attributes hold parameters, buffers and other modules; `vars` finds them, in order.

Nothing is intercepted: no `__getattr__`, no `__setattr__`. An attribute that a subclass sets wins over a method of
the same name, so the library calls the methods that it needs on the class (`Module.train(model)`). What an attribute
holds is what counts: a Parameter is trained, whatever was there before; a Tensor in its place is neither trained nor
saved (torch refuses it), unless `register_buffer` has named it.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pargrad.graph import RemovableHandle
from pargrad.nn.hooks import Hook, ModuleHooks, call_with_hooks, registered
from pargrad.nn.parameter import Buffer, Parameter, Uninitialized
from pargrad.promotion import CATEGORY
from pargrad.tensor import Tensor

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` did not find, and what it found no place for."""

    def __repr__(self) -> str:
        return super().__repr__() if any(self) else "<All keys matched successfully>"


class Module:
    """The base of layers and models: subclasses set attributes in `__init__` and compute in `forward`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html

    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(pg.ones(3))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(pg.ones(2, 3)).shape, [name for name, _ in Scale().named_parameters()]
    ((2, 3), ['factor'])
    """

    training: bool = True
    # Buffers that a state may lack, because older versions of the module had not got them.
    optional_buffers: tuple[str, ...] = ()

    def __call__(self, *args: Any, **named: Any) -> Any:
        hooks = vars(self).get("_hooks")
        return self.forward(*args, **named) if hooks is None else call_with_hooks(self, hooks, args, named)

    def forward(self, *args: Any, **named: Any) -> Any:
        """What calling the module computes: a subclass writes it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: write `def forward(self, x): ...`")

    # ----- what it holds -----

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Its modules, each once, under its first name."""
        seen: set[int] = set()
        for name, child in own_modules(self):
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Itself and every module below it, parents first, each once or as often as it is reached."""
        memo = set() if memo is None else memo
        if id(self) not in memo:
            if remove_duplicate:
                memo.add(id(self))
            yield prefix, self
            for name, child in own_modules(self):
                path = f"{prefix}.{name}" if prefix else name
                yield from Module.named_modules(child, memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Itself and all modules below, each once."""
        for _, module in Module.named_modules(self):
            yield module

    def children(self) -> Iterator[Module]:
        """The modules that are its own attributes, each once."""
        for _, child in Module.named_children(self):
            yield child

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Names and parameters in the order of their attributes; a tied one once, under its first name.

        Unlike in torch, an attribute that was None before it became a parameter keeps the place that it had.
        """
        yield from named_tensors(self, own_parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once; of itself alone with recurse=False."""
        for _, parameter in Module.named_parameters(self, recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors that are state but not trained, as `register_buffer` named them."""
        yield from named_tensors(self, own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once; of itself alone with recurse=False."""
        for _, buffer in Module.named_buffers(self, recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; itself at ""."""
        module = self
        for name in target.split(".") if target else []:
            module = attribute_at(module, name, Module, target)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        return attribute_at(Module.get_submodule(self, path), name, Parameter, target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        module = Module.get_submodule(self, path)
        found = dict(own_buffers(module)).get(name)
        if found is None:
            raise AttributeError(f"{type(module).__name__} has no buffer {name!r}, the end of the path {target!r}")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Puts another module at a dotted path; strict: only where there was one."""
        path, _, name = target.rpartition(".")
        parent = Module.get_submodule(self, path)
        if strict:
            attribute_at(parent, name, Module, target)
        Module.add_module(parent, name, module)

    # ----- what is registered -----

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Makes `self.name` a buffer; one that is not persistent is left out of `state_dict`."""
        check_kind("register_buffer", name, tensor, Tensor, "write pargrad.tensor(...)")
        if name in vars(self) and name not in vars(self).get("_buffer_names", {}):
            raise KeyError(f"register_buffer: {type(self).__name__} already has an attribute {name!r}")
        vars(self).setdefault("_buffer_names", {})[name] = persistent
        setattr(self, name, tensor)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """`self.name = param`, checked; None keeps a place for it."""
        check_kind("register_parameter", name, param, Parameter, "write nn.Parameter(...)")
        if not isinstance(vars(self).get(name), Parameter | None):
            raise KeyError(f"register_parameter: {type(self).__name__} already has an attribute {name!r}")
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """`self.name = module`, checked; the name may be a number, as in Sequential."""
        check_kind("add_module", name, module, Module, "write nn.ReLU(), not F.relu")
        if name in ("forward", "training") or not isinstance(vars(self).get(name), Module | None):
            raise KeyError(f"add_module: {type(self).__name__} already has an attribute {name!r}")
        setattr(self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """add_module"""
        Module.add_module(self, name, module)

    # ----- its hooks -----

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls hook(module, args) before forward, which is given what it returns, if anything.

        with_kwargs: hook(module, args, kwargs) -> (args, kwargs) or None.
        """
        return registered(hooks_of(self).before, Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Calls hook(module, args, output) after forward; what it returns, if anything, takes the output's place.

        with_kwargs: hook(module, args, kwargs, output). always_call: also where something raised an error.
        """
        return registered(hooks_of(self).after, Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls hook(module, grad_output) before gradients go back through the module, and takes what it returns."""
        return registered(hooks_of(self).before_backward, Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls hook(module, grad_input, grad_output) when both are whole; what it returns takes grad_input's place.

        Both are tuples, in the order of forward's positional arguments and of its outputs, None for what is no tensor.
        """
        return registered(hooks_of(self).after_backward, Hook(hook), prepend)

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls hook(module, prefix, keep_vars) before `state_dict` looks at the module."""
        return registered(hooks_of(self).before_state, Hook(hook))

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls hook(module, state_dict, prefix, {}) after `state_dict`, in which it may change what it likes."""
        return registered(hooks_of(self).after_state, Hook(hook))

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls hook(module, state_dict, prefix, {}, strict, missing_keys, unexpected_keys, error_msgs) before loading.

        The state_dict is a copy, whose names it may change; what it adds to the lists is an error.
        """
        return registered(hooks_of(self).before_load, Hook(hook))

    # ----- its state -----

    def get_extra_state(self) -> Any:
        """What `state_dict` is to hold besides tensors; a class that writes it writes `set_extra_state`, too."""
        raise NotImplementedError(
            f"{type(self).__name__} has no get_extra_state: write `def get_extra_state(self): ...`"
        )

    def set_extra_state(self, state: Any) -> None:
        """Takes back what `get_extra_state` gave."""
        raise NotImplementedError(
            f"{type(self).__name__} has no set_extra_state: write `def set_extra_state(self, state)`"
        )

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> OrderedDict[str, Any]:
        """Parameters and persistent buffers by name, on the module's own memory; a tied one under all its names.

        destination: a dict to add to. keep_vars: the tensors themselves, in the graph.
        """
        state: Any = OrderedDict() if destination is None else destination
        hooks = vars(self).get("_hooks")
        for hook in [] if hooks is None else list(hooks.before_state.values()):
            hook.function(self, prefix, keep_vars)
        for name, tensor in (*own_parameters(self), *own_buffers(self, persistent_only=True)):
            state[prefix + name] = tensor if keep_vars else tensor.detach()
        if overrides(self, "get_extra_state"):
            state[prefix + EXTRA_STATE] = type(self).get_extra_state(self)
        for name, child in own_modules(self):
            type(child).state_dict(child, destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in [] if hooks is None else list(hooks.after_state.values()):
            hook.function(self, state, prefix, {})
        return state

    def load_state_dict(
        self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies tensors or arrays into the module's own by name; strict: every name must be on both sides.

        assign: takes their memory instead, and their dtype; what is tied stays tied. Raises RuntimeError with all
        missing, unexpected and mis-shaped names at once, before anything is changed.
        """
        state = dict(state_dict)
        missing: list[str] = []
        unexpected: list[str] = []
        wrong: list[str] = []
        modules = list(Module.named_modules(self, remove_duplicate=False))
        for path, module in modules:
            hooks, prefix = vars(module).get("_hooks"), f"{path}." if path else ""
            for hook in [] if hooks is None else list(hooks.before_load.values()):
                hook.function(module, state, prefix, {}, strict, missing, unexpected, wrong)
        places = {place.name: place for path, module in modules for place in places_of(path, module)}
        optional = {
            f"{path}.{name}" if path else name for path, module in modules for name in type(module).optional_buffers
        }
        extra = {
            f"{path}.{EXTRA_STATE}" if path else EXTRA_STATE: module
            for path, module in modules
            if overrides(module, "set_extra_state")
        }
        missing += [name for name in (*places, *extra) if name not in state and name not in optional]
        unexpected += [name for name in state if name not in places and name not in extra]
        given = [(place, as_array(state[name])) for name, place in places.items() if name in state]
        wrong += [reason for place, array in given if (reason := misfit(place, array, assign))]
        named = {"missing": missing, "unexpected": unexpected}
        told = [f"{what}: {', '.join(names)}" for what, names in named.items() if names and strict]
        if wrong or told:
            raise RuntimeError(f"load_state_dict of {type(self).__name__}: " + "; ".join([*told, *wrong]))
        for place, array in given:
            if assign:
                place.tensor.array = array
            else:
                place.tensor.array[...] = array
            place.tensor.cell[0] += 1
        for name, module in extra.items():
            if name in state:
                type(module).set_extra_state(module, state[name])
        return IncompatibleKeys(missing, unexpected)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Takes the gradients of all parameters away, or makes them 0 with set_to_none=False."""
        for parameter in Module.parameters(self):
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.array[...] = 0

    # ----- its mode and dtype -----

    def train(self, mode: bool = True) -> Module:
        """Sets `training` here and below; a class that overrides `train` (to keep a part as it is) is heard."""
        self.training = mode
        for _, child in own_modules(self):
            type(child).train(child, mode)
        return self

    def eval(self) -> Module:
        """`train(False)`: for use, not for training."""
        return type(self).train(self, False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Has all parameters be trained, or not."""
        for parameter in Module.parameters(self):
            parameter.requires_grad = requires_grad
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Calls fn with every module, those below before the one above, and itself last."""
        for child in Module.children(self):
            type(child).apply(child, fn)
        fn(self)
        return self

    def to(
        self,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> Module:
        """Floating-point parameters and buffers in another dtype, in place: to(dtype), to("cpu"), to(tensor).

        There is no device but the CPU, and `non_blocking` and `memory_format` say nothing.
        """
        for given in args:
            if isinstance(given, Tensor):
                dtype = given.dtype
            elif isinstance(given, np.dtype | type):
                dtype = given
            elif not isinstance(given, bool | None):
                device = given
        if device is not None and str(device) not in ("cpu", "cpu:0"):
            raise RuntimeError(
                f"Module.to: expected a floating-point dtype or device 'cpu', the only one, got {device!r}"
            )
        if dtype is None:
            return self
        kind = np.dtype(dtype)
        if kind.kind not in "fc":
            raise TypeError(f"Module.to: expected a floating-point or complex dtype, got {kind}")
        for tensor in (*Module.parameters(self), *Module.buffers(self)):
            if isinstance(tensor, Uninitialized):
                tensor.kind = kind
            elif tensor.dtype.kind == "f" or tensor.dtype.kind == kind.kind == "c":
                tensor.array = tensor.array.astype(kind, copy=False)
                tensor.grad = None if tensor.grad is None else tensor.grad.to(kind)
        return self

    def type(self, dst_type: Any) -> Module:
        """`to(dst_type)`"""
        return Module.to(self, dst_type)

    def cpu(self) -> Module:
        """The module itself: it is nowhere else."""
        return self

    def share_memory(self) -> Module:
        """The module itself: processes share what a Trainer gives them."""
        return self

    def compile(self, *args: Any, **named: Any) -> None:
        """Taken, and means nothing: nothing is compiled here."""

    def cuda(self, device: Any = None) -> Module:
        """RuntimeError: there is no GPU here."""
        raise RuntimeError("pargrad computes on CPUs: there is no cuda; write model.to('cpu'), or leave it out")

    def double(self) -> Module:
        """All floating-point parameters and buffers as float64."""
        return Module.to(self, np.float64)

    def float(self) -> Module:
        """All floating-point parameters and buffers as float32."""
        return Module.to(self, np.float32)

    def half(self) -> Module:
        """All floating-point parameters and buffers as float16."""
        return Module.to(self, np.float16)

    # ----- what it says -----

    def score(self, data: Any, metric: Any = "accuracy", *, num_workers: Any = "auto", **options: Any) -> Any:
        """The metric over a data set or `(inputs, target)` arrays, each example once, in parallel, with a progress bar.

        metric: "loss", a name of `pargrad.metrics.METRICS` such as "f1" or "r2", or a Metric of one's own.
        num_workers: Ray actors, "auto" for one a free core, 0 for this process alone. The result is one float, the
        same for every number of workers. Further options are those of `pargrad.parallel.score`.
        """
        from pargrad.parallel import score  # the one upward import of the library: scoring is what workers are for

        return score(self, data, metric, num_workers=num_workers, **options)

    def extra_repr(self) -> str:
        """What stands between the parentheses where the module is printed."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}" for name, child in own_modules(self)]
        return in_words(type(self).__name__, type(self).extra_repr(self), children)


def in_words(name: str, extra: str, children: list[str]) -> str:
    """A module in words, on lines of their own where there are children."""
    if not children and "\n" not in extra:
        return f"{name}({extra})"
    lines = "\n".join([*extra.splitlines(), *children]).replace("\n", "\n  ")
    return f"{name}(\n  {lines}\n)"


# ----- what is found in a module -----


def named_tensors(
    root: Module, own: Callable[[Module], list], prefix: str, recurse: bool, remove_duplicate: bool
) -> Iterator[tuple[str, Any]]:
    """What `own` finds in a module and, with recurse, in those below it, under full names."""
    paths = Module.named_modules(root, None, prefix, remove_duplicate) if recurse else [(prefix, root)]
    seen: set[int] = set()
    for path, module in paths:
        for name, tensor in own(module):
            if not (remove_duplicate and id(tensor) in seen):
                seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor


def own_modules(module: Module) -> list[tuple[str, Module]]:
    """A module's direct children, as often as they are its attributes."""
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Module)]


def own_parameters(module: Module) -> list[tuple[str, Parameter]]:
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Parameter)]


def own_buffers(module: Module, persistent_only: bool = False) -> list[tuple[str, Tensor]]:
    named: dict[str, bool] = vars(module).get("_buffer_names", {})
    found = []
    for name, value in vars(module).items():
        declared = isinstance(value, Buffer)
        registered = name in named and isinstance(value, Tensor) and not isinstance(value, Parameter)
        if declared or registered:
            persistent = value.persistent if declared else named[name]
            if persistent or not persistent_only:
                found.append((name, value))
    return found


def hooks_of(module: Module) -> ModuleHooks:
    return vars(module).setdefault("_hooks", ModuleHooks())


def attribute_at(module: Module, name: str, kind: Any, path: str) -> Any:
    value = vars(module).get(name)
    if not isinstance(value, kind):
        got = "none" if value is None else type(value).__name__
        raise AttributeError(
            f"{type(module).__name__} has no {kind.__name__} {name!r}, which is in the path {path!r}, got {got}"
        )
    return value


def check_kind(method: str, name: str, value: Any, kind: type, remedy: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{method}: expected a name, got {type(name).__name__}")
    if value is not None and not isinstance(value, kind):
        what = "a tensor" if kind is Tensor else f"a {kind.__name__}"
        raise TypeError(f"{method}: expected {what} or None for {name!r}, got {type(value).__name__}: {remedy}")
    if not name or "." in name:
        raise KeyError(f"{method}: expected a name without a dot, got {name!r}")


def overrides(module: Module, method: str) -> bool:
    return getattr(type(module), method) is not getattr(Module, method)


# ----- what is loaded into a module -----


class Place(NamedTuple):
    """A tensor in a module's state, under its full name."""

    name: str
    tensor: Tensor


def places_of(path: str, module: Module) -> list[Place]:
    prefix = f"{path}." if path else ""
    own = (*own_parameters(module), *own_buffers(module, persistent_only=True))
    return [Place(prefix + name, tensor) for name, tensor in own]


def misfit(place: Place, array: np.ndarray, assign: bool) -> str:
    """Why an array cannot take a tensor's place; nothing where it can."""
    own = place.tensor.array
    if array.shape != own.shape:
        return f"{place.name}: expected shape {own.shape}, got {array.shape}"
    if CATEGORY.get(array.dtype.kind, 9) > CATEGORY[own.dtype.kind]:
        return f"{place.name}: {array.dtype} cannot be loaded into {own.dtype}"
    if assign and place.tensor.requires_grad and array.dtype.kind not in "fc":
        return f"{place.name}: {array.dtype} cannot take the place of a parameter, which is trained"
    if not own.flags.writeable:
        return f"{place.name}: its memory is read-only while a Trainer is open: load before it opens, or after close()"
    return ""


def as_array(value: Any) -> np.ndarray:
    # np.asarray also takes what is not ours: torch's tensors, safetensors' arrays, lists.
    return value.array if isinstance(value, Tensor) else np.asarray(value)
