"""Data sets: the protocol that the trainer asks for, arrays, and MNIST."""

from pargrad.data.dataset import ArrayData, Data, as_data, epoch_order, first_not_finite

__all__ = ["ArrayData", "Data", "as_data", "epoch_order", "first_not_finite"]
