"""Sequences of different lengths: padded to one tensor, or packed, one time step of all after the other.

Each function gathers rows by their numbers, so that one indexing gives its value and its gradient.
https://docs.pytorch.org/docs/stable/nn.html#utility-functions
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pargrad import operators
from pargrad.tensor import Tensor

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence(NamedTuple):
    """Sequences as one tensor: the first steps of all, then the second of those that have one, and so on.

    batch_sizes: how many sequences have each step. sorted_indices: the sequences' own numbers in the order of
    falling length in which they are packed, and unsorted_indices the other way round; None where they were sorted.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.PackedSequence.html
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **named: Any) -> PackedSequence:
        """The data on another device or in another dtype, as `Tensor.to`."""
        return self._replace(data=self.data.to(*args, **named))

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self.to(np.dtype(np.float64))

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self.to(np.dtype(np.float32))

    def cpu(self) -> PackedSequence:
        """Itself: everything is on the CPU."""
        return self


def pad_sequence(
    sequences: Tensor | Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (length, *) as one tensor (longest, number, *), or (number, longest, *) with batch_first.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: expected a list of tensors, got {type(sequences).__name__}")
    if padding_side not in ("right", "left"):
        raise RuntimeError(f"pad_sequence: expected padding_side 'right' or 'left', got {padding_side!r}")
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("pad_sequence: expected at least one sequence, got none")
    if len({sequence.shape[1:] for sequence in sequences}) > 1:
        raise RuntimeError(
            "pad_sequence: expected sequences that differ in length alone, got shapes "
            f"{[sequence.shape for sequence in sequences]}"
        )
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = lengths.max()
    steps = np.arange(longest)[:, None] - (longest - lengths if padding_side == "left" else 0)
    starts = lengths.cumsum() - lengths
    return gathered(
        operators.cat(sequences), starts + steps, (steps >= 0) & (steps < lengths), batch_first, padding_value
    )


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences that `pad_sequence` padded on the right. Unlike torch's, it leaves its argument as it is.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpad_sequence.html
    """
    batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [batch[i, :length] for i, length in enumerate(lengths_of(lengths, "unpad_sequence").tolist())]


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Packs a padded batch; enforce_sorted: the sequences come in the order of falling length.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html
    """
    sizes = lengths_of(lengths, "pack_padded_sequence")
    steps, batch = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
    if len(sizes) != batch:
        raise RuntimeError(f"pack_padded_sequence: expected {batch} lengths, one a sequence, got {len(sizes)}")
    if not len(sizes) or sizes.min() < 1 or sizes.max() > steps:
        raise RuntimeError(f"pack_padded_sequence: expected lengths from 1 to {steps}, got {sizes.tolist()}")
    order = np.arange(batch) if enforce_sorted else np.argsort(-sizes, kind="stable")
    sizes = sizes[order]
    if (np.diff(sizes) > 0).any():
        raise RuntimeError(
            "pack_padded_sequence: expected sequences in the order of falling length, got lengths "
            f"{sizes.tolist()}: write enforce_sorted=False"
        )
    step, place = np.nonzero(np.arange(sizes[0])[:, None] < sizes)
    data = input[order[place], step] if batch_first else input[step, order[place]]
    batch_sizes = Tensor(np.bincount(step))
    if enforce_sorted:
        return PackedSequence(data, batch_sizes)
    return PackedSequence(data, batch_sizes, Tensor(order), Tensor(np.argsort(order)))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded batch, with its sequences in their own order, and their lengths.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html
    """
    batch_sizes = sequence.batch_sizes.array
    longest = len(batch_sizes) if total_length is None else total_length
    if longest < len(batch_sizes):
        raise ValueError(
            f"pad_packed_sequence: expected total_length of at least {len(batch_sizes)}, the longest sequence, got "
            f"{total_length}"
        )
    places = np.arange(batch_sizes[0])
    present = np.zeros((longest, len(places)), bool)
    present[: len(batch_sizes)] = places < batch_sizes[:, None]
    starts = np.zeros((longest, 1), np.int64)
    starts[: len(batch_sizes), 0] = batch_sizes.cumsum() - batch_sizes
    order = places if sequence.unsorted_indices is None else sequence.unsorted_indices.array
    rows, present = (starts + places)[:, order], present[:, order]
    padded = gathered(sequence.data, rows, present, batch_first, padding_value)
    return padded, Tensor(present.sum(axis=0))


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """A PackedSequence of sequences (length, *), which are in order of falling length unless enforce_sorted=False.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_sequence.html
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (length, *) of a PackedSequence, as a list in their own order.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpack_sequence.html
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another; None of None."""
    return None if permutation is None else Tensor(np.argsort(permutation.array))


def gathered(rows: Tensor, index: np.ndarray, present: np.ndarray, batch_first: bool, padding: float) -> Tensor:
    """rows[index], of shape (steps, batch, *), where present, else the padding value."""
    padding_row = Tensor(np.full((1, *rows.shape[1:]), padding, rows.dtype))
    index = np.where(present, index, len(rows))
    return operators.cat([rows, padding_row])[np.ascontiguousarray(index.T) if batch_first else index]


def lengths_of(lengths: Any, name: str) -> np.ndarray:
    sizes = np.asarray(lengths.array if isinstance(lengths, Tensor) else lengths)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: expected a list of integers as lengths, got {sizes.dtype} of shape {sizes.shape}")
    return sizes.astype(np.int64)
