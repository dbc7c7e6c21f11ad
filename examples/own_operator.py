"""An operator of one's own, in both ways there are, in a fit by Newton's method; and how a wrong derivative is found.

The operator is log cosh, a loss that is quadratic near 0 and linear far away, so that outliers pull little. Its
derivative is tanh. Composed of cosh and log it would overflow at 100; as one operator it does not.
"""

import math

import numpy as np

from pargrad import Tensor, autograd, func, linalg, manual_seed, rand, tensor
from pargrad.gradcheck import check_rule
from pargrad.rules import rule, sample

STEPS = 8


# The first way is torch's. Both directions are written in tensors, so that the derivative has a derivative.
class LogCosh(autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        size = x.abs()
        return size + (-2 * size).exp().log1p() - math.log(2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * x.tanh()


# The second is how pargrad's own operators are written: numpy, the value, then a function from the gradient of the
# value, g, to that of x. What it keeps of x is read from its code. The samples, shapes and a domain, are for checks.
@rule(sample((2, 3)), sample((4,), domain=(10.0, 30.0)))
def log_cosh(x):
    size = np.abs(x)
    return size + np.log1p(np.exp(-2 * size)) - math.log(2), lambda g: g * np.tanh(x)


# The same with a derivative that is wrong by 0.05 %.
@rule(sample((2, 3)))
def wrong_log_cosh(x):
    size = np.abs(x)
    return size + np.log1p(np.exp(-2 * size)) - math.log(2), lambda g: g * np.tanh(x) * 1.0005


def check() -> None:
    """Holds first and second derivatives against central differences, which takes float64."""
    x = tensor(np.linspace(-3, 3, 7), requires_grad=True)
    autograd.gradcheck(LogCosh.apply, x)
    autograd.gradgradcheck(LogCosh.apply, x)
    print(f"log_cosh is right on its {check_rule(log_cosh)} samples")
    try:
        check_rule(wrong_log_cosh)
    except autograd.GradcheckError as error:
        print(f"wrong_log_cosh is found out: {error}")
    else:
        raise AssertionError("a derivative that is wrong by 0.05 % was not noticed")


def main() -> dict[str, float]:
    check()

    manual_seed(0)
    points = rand(50)
    heights = 3 * points - 1 + 0.1 * (rand(50) - 0.5)
    heights[::10] += 20.0  # five outliers

    figures = {}
    for name, operator in {"Function": LogCosh.apply, "rule": log_cosh}.items():

        def loss(line: Tensor, operator=operator) -> Tensor:
            return operator(line[0] * points + line[1] - heights).mean()

        # Newton's method: each step goes to the lowest point of the parabola that touches the loss.
        line = tensor([2.0, 0.0])
        for _ in range(STEPS):
            line = line - linalg.solve(func.hessian(loss)(line), func.grad(loss)(line))
        slope, offset = line.tolist()
        left = func.grad(loss)(line).abs().max().item()
        print(f"{name}: slope {slope:.6f}, offset {offset:.6f}, largest gradient {left:.6f}")
        figures |= {f"slope by {name}": slope, f"offset by {name}": offset, f"gradient by {name}": left}
    return figures


if __name__ == "__main__":
    main()
