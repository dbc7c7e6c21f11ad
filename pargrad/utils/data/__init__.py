"""Data sets, samplers and the DataLoader under torch's names, in torch's order for the same seed.

https://docs.pytorch.org/docs/stable/data.html. `pargrad.parallel.Trainer` takes the map-style data sets of this
module too, and cuts batches itself.
"""

from pargrad.utils.data.collate import default_collate, default_convert
from pargrad.utils.data.dataloader import DataLoader, get_worker_info
from pargrad.utils.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from pargrad.utils.data.distributed import DistributedSampler
from pargrad.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset",
    "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "default_collate", "default_convert", "get_worker_info", "random_split",
]  # fmt: skip
