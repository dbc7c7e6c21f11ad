"""The data-parallel step from the engine up, in sixty lines: what the Trainer does, less what makes it fast and safe.

Read it from top to bottom. It trains a small network on MNIST with one, two, three and four workers, then in two
processes, then by the Trainer, and ends by asserting that all of these have the same parameters, to the last bit.
"""

import multiprocessing
from itertools import starmap

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import mnist
from pargrad.parallel import Trainer, state_sha256
from pargrad.parallel.cores import one_blas_thread
from pargrad.parallel.shards import aligned_nodes, owned_shards, reduce_tree, shard_slice

# 1. A batch of 128 images is cut into 8 shards, however many workers there are. What a sum of floating-point numbers is
#    depends on how it is grouped, so the groups must not depend on who adds.
BATCH, SHARDS = 128, 8


# 2. The engine gives a shard's gradient: that of the *sum* of its losses. Sums of shards of any size add up to the sum
#    of the batch; means of uneven shards, averaged, would not be the batch's mean.
def shard_gradient(model, images, labels, shard):
    rows = shard_slice(shard, SHARDS, len(labels))
    if rows.start == rows.stop:  # a batch of fewer examples than shards leaves some of them empty
        return None
    loss = F.cross_entropy(model(images[rows]), labels[rows], reduction="sum")
    return [gradient.numpy() for gradient in pg.autograd.grad(loss, list(model.parameters()))]


def add(left, right):
    return [ours + theirs for ours, theirs in zip(left, right)]


# 3. A worker has some neighbouring shards. It adds what it can without those of others: the largest nodes of one binary
#    tree over all shards, each handed on at its place. One thread for BLAS, since more of them would group the sums
#    inside a matrix product in another way.
def work(model, images, labels, worker, workers):
    parts = [None] * SHARDS
    with one_blas_thread():
        for start, size in aligned_nodes(owned_shards(worker, workers, SHARDS)):
            parts[start] = reduce_tree([shard_gradient(model, images, labels, start + i) for i in range(size)], add)
    return parts


# 4. The step. `run` runs the workers: starmap one after the other, a pool of processes side by side. The all-reduce is
#    the rest of the tree, where nothing but a place's owner has something at it, and then one division, of the whole
#    batch's sum by the whole batch's number of examples. AdamW steps with that.
def step(model, optimizer, images, labels, workers, run):
    handed_on = run(work, [(model, images, labels, worker, workers) for worker in range(workers)])
    parts = [next((part for part in place if part is not None), None) for place in zip(*handed_on)]
    for parameter, total in zip(model.parameters(), reduce_tree(parts, add)):
        parameter.grad = pg.from_numpy(total / len(labels))
    optimizer.step()


def new_model():
    pg.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, optim.AdamW(model.parameters(), lr=1e-2)


# 5. Training is step after step, over batches whose order follows from the seed alone.
def train(images, labels, workers, run=starmap):
    model, optimizer = new_model()
    order = pg.randperm(len(labels), generator=pg.Generator().manual_seed(0))
    for batch in order.split(BATCH):
        step(model, optimizer, images[batch], labels[batch], workers, run)
    return state_sha256(model)


# 6. What was promised, asserted. The last batch of 1,029 images has five of them, for eight shards.
def main() -> dict[str, str]:
    images, labels = (pg.from_numpy(array[:1029]) for array in mnist.load("mnist").train)

    model, optimizer = new_model()
    loss = F.cross_entropy(model(images), labels)
    whole = pg.autograd.grad(loss, list(model.parameters()))
    step(model, optimizer, images, labels, 3, starmap)
    pg.testing.assert_close([parameter.grad for parameter in model.parameters()], whole)
    print("the gradient of three workers is the gradient of the whole batch")

    hashes = {f"workers: {workers}": train(images, labels, workers) for workers in (1, 2, 3, 4)}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        hashes["processes: 2"] = train(images, labels, 2, pool.starmap)
    model, optimizer = new_model()
    with Trainer(model, F.cross_entropy, optimizer, batch_size=BATCH, shards=SHARDS, num_workers=0) as trainer:
        trainer.fit((images, labels), epochs=1)
    hashes["Trainer"] = state_sha256(model)
    print("\n".join(f"{name:12} {state}" for name, state in hashes.items()))
    assert len(set(hashes.values())) == 1
    return hashes


if __name__ == "__main__":
    main()
