"""Recurrent layers, RNN, LSTM and GRU, and the cells that are one step of each."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec

import numpy as np

from pargrad import operators
from pargrad.nn import init
from pargrad.nn.dropout import dropout
from pargrad.nn.linear import linear
from pargrad.nn.linear_layers import empty
from pargrad.nn.module import Module, Parameter
from pargrad.nn.utils.rnn import PackedSequence
from pargrad.rules import RULES
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply

State = tuple[Tensor, ...]  # hidden, and of an LSTM cell


class Mode(NamedTuple):
    """A kind of recurrent layer: its rule, how many gates its matrices hold, and of how many tensors its state is."""

    rule: str
    gates: int
    states: int
    settings: dict[str, Any]


MODES = {
    "RNN_TANH": Mode("rnn", 1, 1, {"nonlinearity": "tanh"}),
    "RNN_RELU": Mode("rnn", 1, 1, {"nonlinearity": "relu"}),
    "LSTM": Mode("lstm", 4, 2, {}),
    "GRU": Mode("gru", 3, 1, {}),
}


def mode_of(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    return f"RNN_{nonlinearity.upper()}"


def zeros(shape: tuple[int, ...], input: Tensor) -> Tensor:
    """A state where none was given; for a stack of inputs, one for each: what the weights make of it is theirs."""
    if isinstance(input, Stacked):
        return Stacked(np.zeros((len(input.slices), *shape), input.dtype))
    return Tensor(np.zeros(shape, input.dtype))


# ----- a sequence -----


class Weights(NamedTuple):
    """The parameters of one layer in one direction; None for those that it has not."""

    input: Any
    hidden: Any
    input_bias: Any
    hidden_bias: Any
    projection: Any


def scan(mode: Mode, weights: Weights, rows: Tensor, sizes: tuple[int, ...], state: State, reverse: bool) -> Any:
    """All steps of one layer in one direction: the outputs, in rows as the input's, and the last state.

    sizes: how many of the rows belong to each step. They never grow: the longest sequences come first, and a state
    goes along for as long as its sequence does.
    """
    steps = linear(rows, weights.input, weights.input_bias)
    bias = np.zeros(weights.hidden.shape[0], rows.dtype) if weights.hidden_bias is None else weights.hidden_bias
    rule, inputs = RULES[mode.rule], (steps, *state, weights.hidden, bias)
    if weights.projection is not None:
        rule, inputs = RULES["lstm_projected"], (*inputs, weights.projection)
    outputs, *state = apply(rule, *inputs, sizes=sizes, reverse=reverse, **mode.settings)
    return outputs, tuple(state)


def reordered(state: State, order: Tensor | None) -> State:
    return state if order is None else tuple(each[:, order] for each in state)


class RNNBase(Module):
    """What RNN, LSTM and GRU have in common: parameters of torch's names, and the way through the layers.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNBase.html
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        name = type(self).__name__
        if mode not in MODES:
            raise ValueError(f"{name}: expected a mode of {[*MODES]}, got {mode!r}")
        for what, value in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: expected a bool for {what}, got {value!r}")
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"{name}: expected an int for {what}, got {size!r}")
            if size <= 0:
                raise ValueError(f"{name}: expected {what} to be 1 or more, got {size}")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: expected a probability dropout between 0 and 1, got {dropout!r}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} does nothing with one layer: it is applied to what a layer hands on",
                stacklevel=3,
            )
        if proj_size and (mode != "LSTM" or not 0 < proj_size < hidden_size):
            raise ValueError(
                f"{name}: only an LSTM has a projection, smaller than hidden_size={hidden_size}; got "
                f"proj_size={proj_size}"
            )
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        rows, output = MODES[mode].gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            features = output * (1 + bidirectional) if layer else input_size
            shapes = [(rows, features), (rows, output), (rows,), (rows,), (proj_size, hidden_size)]
            for suffix in self._directions(layer):
                for each, shape in zip(self._names(suffix), shapes):
                    if each is not None:
                        setattr(self, each, empty(shape, device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights and biases anew, as torch draws them."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in Module.parameters(self):
            init.uniform_(parameter, -bound, bound)

    def _directions(self, layer: int) -> list[str]:
        """What the parameters of each direction of a layer end with."""
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def _names(self, suffix: str) -> list[str | None]:
        """The names of the parameters of one layer in one direction, in the order of `Weights`."""
        there = (True, True, self.bias, self.bias, bool(self.proj_size))
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [f"{name}{suffix}" if has else None for name, has in zip(names, there)]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, of each layer and direction by itself."""
        return [
            [getattr(self, name) for name in self._names(suffix) if name is not None]
            for layer in range(self.num_layers)
            for suffix in self._directions(layer)
        ]

    def flatten_parameters(self) -> None:
        """Does nothing: in torch it lays the parameters out for a GPU."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Outputs of the last layer at all steps, and the last state of all layers and directions."""
        count = MODES[self.mode].states
        given = None if hx is None else tuple(hx) if count == 2 else (hx,)
        if given is not None and (len(given) != count or not all(isinstance(x, Tensor) for x in given)):
            raise TypeError(
                f"{type(self).__name__}: expected the state as {'a tuple (h_0, c_0)' if count == 2 else 'one tensor'}, "
                f"got {', '.join(type(x).__name__ for x in given)}"
            )
        return self._of_packed(input, given) if isinstance(input, PackedSequence) else self._of_tensor(input, given)

    def _of_packed(self, packed: PackedSequence, given: State | None) -> Any:
        """The states come and go in the sequences' own order, and are used in that of falling length."""
        rows, sizes = packed.data, tuple(packed.batch_sizes.tolist())
        if rows.shape[1:] != (self.input_size,):
            raise RuntimeError(
                f"{type(self).__name__}: expected packed rows of {self.input_size} features, got shape {rows.shape}"
            )
        initial = self._initial(given, sizes[0], rows)
        if given is not None:
            initial = reordered(initial, packed.sorted_indices)
        rows, state = self._through_layers(rows, sizes, initial)
        return packed._replace(data=rows), self._told(reordered(state, packed.unsorted_indices))

    def _of_tensor(self, input: Tensor, given: State | None) -> Any:
        single = input.ndim == 2
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            kind = RuntimeError if input.ndim in (2, 3) else ValueError  # as torch's
            raise kind(
                f"{type(self).__name__}: expected input of shape {'(N, L' if self.batch_first else '(L, N'}, "
                f"{self.input_size}) or (L, {self.input_size}), got {input.shape}"
            )
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        length, batch = x.shape[:2]
        if not length:
            raise RuntimeError(f"{type(self).__name__}: expected a sequence of 1 step or more, got shape {input.shape}")
        if given is not None and single:
            given = tuple(self._checked(each, 2).unsqueeze(1) for each in given)
        rows = x.reshape(length * batch, self.input_size)
        rows, state = self._through_layers(rows, (batch,) * length, self._initial(given, batch, input))
        output = rows.reshape(length, batch, rows.shape[1])
        if single:
            output, state = output[:, 0], tuple(each[:, 0] for each in state)
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, self._told(state)

    def _told(self, state: State) -> Any:
        return state if len(state) == 2 else state[0]

    def _checked(self, state: Tensor, ndim: int) -> Tensor:
        if state.ndim != ndim:
            raise RuntimeError(
                f"{type(self).__name__}: expected a state of {ndim} dimensions, as the input has, got shape "
                f"{state.shape}"
            )
        return state

    def _initial(self, given: State | None, batch: int, input: Tensor) -> State:
        """The state before the first step, (layers * directions, N, size) each: what was given, checked, or zeros."""
        expected = self.all_weights[0][0].dtype
        if input.dtype != expected:
            raise ValueError(
                f"{type(self).__name__}: expected input of {expected}, as its weights are, got {input.dtype}: write "
                f"input.to({expected}) or model.to({input.dtype})"
            )
        count = self.num_layers * (1 + self.bidirectional)
        shapes = [(count, batch, self.proj_size or self.hidden_size), (count, batch, self.hidden_size)]
        if given is None:
            return tuple(zeros(shape, input) for shape in shapes[: MODES[self.mode].states])
        for each, shape in zip(given, shapes):
            if self._checked(each, 3).shape != shape:
                raise RuntimeError(f"{type(self).__name__}: expected a state of shape {shape}, got {each.shape}")
        return given

    def _through_layers(self, rows: Tensor, sizes: tuple[int, ...], initial: State) -> tuple[Tensor, State]:
        """The rows that the last layer gives, and the last states of all layers and directions."""
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.training:
                rows = dropout(rows, self.dropout)
            outputs = []
            for suffix in self._directions(layer):
                weights = Weights(*[name and getattr(self, name) for name in self._names(suffix)])
                state = tuple(each[len(last)] for each in initial)
                output, state = scan(MODES[self.mode], weights, rows, sizes, state, suffix.endswith("reverse"))
                outputs.append(output)
                last.append(state)
            rows = outputs[0] if len(outputs) == 1 else operators.cat(outputs, 1)
        return rows, tuple(operators.stack(each) for each in zip(*last))

    def extra_repr(self) -> str:
        words = [f"{self.input_size}, {self.hidden_size}"]
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        usual |= {"bidirectional": False}
        words += [f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return ", ".join(words)


Taken = ParamSpec("Taken")


def without_mode(
    construct: Callable[Concatenate[Any, str, Taken], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Taken], None]]:
    """Tells editors, checkers and `inspect` that a constructor takes what follows the mode in this one."""
    signature = inspect.signature(construct)
    others = [each for each in signature.parameters.values() if each.name != "mode"]

    def decorate(constructor: Callable[..., None]) -> Callable[Concatenate[Any, Taken], None]:
        constructor.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return constructor

    return decorate


class RNN(RNNBase):
    """h_t = tanh (or relu) of W_ih x_t + b_ih + W_hh h_(t-1) + b_hh, in layers, each on what the one below gives.

    input (L, N, input_size), with batch_first (N, L, input_size), or (L, input_size); hx and the state it gives
    (layers * directions, N, hidden_size); outputs (L, N, directions * hidden_size).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        self.nonlinearity = nonlinearity
        super().__init__(
            mode_of(nonlinearity),
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype,
        )  # fmt: skip


class LSTM(RNNBase):
    """Long short-term memory: hx and the state it gives are (h, c); with proj_size, h is a projection of that size.

    input (L, N, input_size), with batch_first (N, L, input_size), or (L, input_size). The arguments are those of
    `RNNBase` that follow its mode. Hochreiter and Schmidhuber 1997.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> outputs, (h, c) = nn.LSTM(10, 20, num_layers=2)(pg.randn(5, 3, 10))
    >>> outputs.shape, h.shape, c.shape
    ((5, 3, 20), (2, 3, 20), (2, 3, 20))
    """

    @without_mode(RNNBase.__init__)
    def __init__(self, *args: Any, **named: Any):
        super().__init__("LSTM", *args, **named)


class GRU(RNNBase):
    """Gated recurrent units (Cho et al. 2014), with the arguments of `RNNBase` that follow its mode.

    input (L, N, input_size), with batch_first (N, L, input_size), or (L, input_size), of the weights' dtype: ValueError
    for another. Gives outputs (L, N, directions * hidden_size) and h (layers * directions, N, hidden_size).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    """

    @without_mode(RNNBase.__init__)
    def __init__(self, *args: Any, **named: Any):
        super().__init__("GRU", *args, **named)


# ----- one step as a layer -----


class RNNCellBase(Module):
    """What the cells have in common: input (N, input_size) or (input_size,), and a state of the same kind."""

    mode: str

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size

        def parameter(*shape: int) -> Parameter:
            return empty(shape, device, dtype)

        self.weight_ih = parameter(rows, input_size)
        self.weight_hh = parameter(rows, hidden_size)
        self.bias_ih = parameter(rows) if bias else None
        self.bias_hh = parameter(rows) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights and biases anew, as torch draws them."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in Module.parameters(self):
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        return self._step(input, None if hx is None else (hx,))[0]

    def _step(self, input: Tensor, given: State | None) -> State:
        single = input.ndim == 1
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            kind = RuntimeError if input.ndim in (1, 2) else ValueError  # as torch's
            raise kind(
                f"{type(self).__name__}: expected input of shape (N, {self.input_size}) or ({self.input_size},), got "
                f"{input.shape}"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        mode = MODES[self.mode]
        state = (zeros(shape, input),) * mode.states if given is None else given
        for each in state:
            if each.shape != shape:
                raise RuntimeError(f"{type(self).__name__}: expected a state of shape {shape}, got {each.shape}")
        if single:
            input, state = input.unsqueeze(0), tuple(each.unsqueeze(0) for each in state)
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        _, state = scan(mode, weights, input, (len(input),), state, False)
        return tuple(each[0] for each in state) if single else state

    def extra_repr(self) -> str:
        words = f"{self.input_size}, {self.hidden_size}"
        return words if self.bias else f"{words}, bias={self.bias}"


class RNNCell(RNNCellBase):
    """h' = tanh (or relu) of W_ih x + b_ih + W_hh h + b_hh: x (N, input_size), h (N, hidden_size), or both without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ):
        self.nonlinearity = nonlinearity
        self.mode = mode_of(nonlinearity)
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)

    def extra_repr(self) -> str:
        words = super().extra_repr()
        return words if self.nonlinearity == "tanh" else f"{words}, nonlinearity={self.nonlinearity}"


class LSTMCell(RNNCellBase):
    """One step of an LSTM: hx and what it gives are (h, c), each (N, hidden_size) or (hidden_size,).

    input (N, input_size) or (input_size,); without hx both begin as zeros. RuntimeError for other shapes.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """

    mode = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> State:  # type: ignore[override]
        return self._step(input, hx)


class GRUCell(RNNCellBase):
    """One step of a GRU: input (N, input_size), hx and what it gives (N, hidden_size), or all without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """

    mode = "GRU"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]
