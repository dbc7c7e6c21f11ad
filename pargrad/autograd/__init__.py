"""Gradients on request, and operators of one's own: what torch keeps in `torch.autograd`.

https://docs.pytorch.org/docs/stable/autograd.html
"""

from pargrad.autograd import function, functional
from pargrad.autograd.gradients import (
    Variable,
    backward,
    detect_anomaly,
    grad,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from pargrad.function import Function, once_differentiable
from pargrad.gradcheck import GradcheckError, gradcheck, gradgradcheck
from pargrad.modes import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = [
    "Function",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
]
