"""What scripts set and ask of torch.backends: it says how GPUs compute, is taken, and means nothing here."""

from pargrad.backends import cuda as cuda
from pargrad.backends import cudnn as cudnn
from pargrad.backends import mps as mps

__all__ = ["cuda", "cudnn", "mps"]
