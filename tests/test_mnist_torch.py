"""MNIST's arrays against torchvision's ToTensor and Normalize, to the bit."""

import numpy as np
import torch

from pargrad.data import mnist


def test_arrays_are_normalized_as_torchvision_does():
    images = mnist.load("mnist")
    mean, std = torch.tensor(0.1307), torch.tensor(0.3081)
    for pixels, (x, _) in ((images.train_images, images.train), (images.test_images, images.test)):
        twin = torch.from_numpy(pixels).to(torch.float32).div(255).sub_(mean).div_(std)
        assert x.tobytes() == np.ascontiguousarray(twin.numpy()).tobytes()
