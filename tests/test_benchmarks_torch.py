"""The benchmarks' torch rivals train what numpy by hand trains, in torch's order, and leave no process behind."""

import multiprocessing

import numpy as np
import pytest
import torch

from benchmarks.report import check_agreement
from benchmarks.rivals import Task, TorchRival, open_rivals

TASK = Task(examples=1500, sizes=(400, 32, 16, 4), batch_size=16, lr=0.003, weight_decay=1.0)


@pytest.mark.parametrize(("examples", "epoch"), [(1, 0), (2, 1), (300, 0), (5000, 3)])
def test_the_order_is_that_of_torchs_distributed_sampler(examples, epoch):
    sampler = torch.utils.data.DistributedSampler(range(examples), num_replicas=1, rank=0, seed=7)
    sampler.set_epoch(epoch)
    np.testing.assert_array_equal(Task(examples=examples, seed=7).order(epoch), list(sampler))


@pytest.mark.timeout(180)
def test_one_process_ddp_and_numpy_by_hand_agree_in_two_epochs():
    with open_rivals(TASK, ["numpy", "torch", "torch-ddp"]) as rivals:
        for number in range(2):
            check_agreement({rival.name: rival.epoch(number) for rival in rivals})
        assert [rival.processes for rival in rivals] == [1, 1, 2]
        assert [rival.threads for rival in rivals if rival.name != "torch"] == [1, 1]  # torch: as many as it takes
    assert multiprocessing.active_children() == []


@pytest.mark.timeout(180)
def test_a_process_that_ended_is_an_error_and_not_a_wait():
    rival = TorchRival("torch-ddp", TASK, processes=2)
    try:
        rival.children[1].kill()
        with pytest.raises(RuntimeError, match=r"^torch-ddp: one of its processes ended"):
            rival.epoch(0)
    finally:
        rival.close()
    assert multiprocessing.active_children() == []


def test_ddp_refuses_batches_that_it_would_average_wrongly():
    with pytest.raises(ValueError, match="301 examples in batches of 64 do not fall into 2 equal parts"):
        TorchRival("torch-ddp", Task(examples=301, batch_size=64), processes=2)
