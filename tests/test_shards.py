"""Shards, the tree over them, and the reference all-reduce."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pargrad.parallel.shards import (
    aligned_nodes,
    all_nodes,
    all_reduce,
    check_shards,
    owned_shards,
    reduce_tree,
    shard_slice,
)

POWERS = [1, 2, 4, 8, 16, 32]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(POWERS), st.integers(0, 500))
def test_shards_cut_a_batch_into_contiguous_pieces_that_cover_it_once(shards, examples):
    pieces = [range(examples)[shard_slice(shard, shards, examples)] for shard in range(shards)]
    assert [i for piece in pieces for i in piece] == list(range(examples))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(POWERS), st.data())
def test_nodes_of_all_workers_are_aligned_and_cover_every_shard_once(shards, data):
    workers = data.draw(st.integers(1, shards))
    nodes = all_nodes(workers, shards)
    assert [i for start, size in nodes for i in range(start, start + size)] == list(range(shards))
    assert all(size & (size - 1) == 0 and start % size == 0 for start, size in nodes)
    assert [len(owned_shards(w, workers, shards)) for w in range(workers)].count(0) == 0


def test_workers_hand_on_the_largest_nodes():
    assert [len(all_nodes(workers, 8)) for workers in range(1, 6)] == [1, 2, 5, 4, 6]
    assert aligned_nodes(range(2, 5)) == [(2, 2), (4, 1)]
    assert aligned_nodes(range(1, 8)) == [(1, 1), (2, 2), (4, 4)]


def by_nodes(parts, workers):
    """The tree as workers and driver share it: each worker its nodes, then the tree over what they hand on."""
    level = [None] * len(parts)
    for start, size in all_nodes(workers, len(parts)):
        level[start] = reduce_tree(parts[start : start + size], np.add)
    return reduce_tree(level, np.add)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([2, 4, 8, 16]), st.data())
def test_the_sum_has_the_same_bits_for_any_number_of_workers(shards, data):
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    parts = [generator.standard_normal(50).astype(np.float32) for _ in range(shards)]
    for absent in data.draw(st.sets(st.integers(0, shards - 1), max_size=shards - 1)):
        parts[absent] = None
    expected = reduce_tree(parts, np.add)
    for workers in range(1, shards + 1):
        assert by_nodes(parts, workers).tobytes() == expected.tobytes()


def test_another_order_has_other_bits():
    """The check above can fail: adding in shard order is not the tree."""
    generator = np.random.default_rng(0)
    parts = [generator.standard_normal(1000).astype(np.float32) for _ in range(8)]
    in_order = parts[0]
    for part in parts[1:]:
        in_order = in_order + part
    assert in_order.tobytes() != reduce_tree(parts, np.add).tobytes()
    np.testing.assert_allclose(in_order, reduce_tree(parts, np.add), rtol=1e-4, atol=1e-5)


def test_an_absent_part_passes_its_sibling_up_unchanged():
    minus_zero = np.array([-0.0], np.float32)
    assert np.signbit(reduce_tree([None, minus_zero, None, None], np.add)).all()
    assert reduce_tree([None, None], np.add) is None


def test_all_reduce_divides_the_sum_once_not_the_mean_of_means():
    """Uneven shards: 3 examples with gradient 1, 1 example with gradient 5."""
    gradients = [[np.array([3.0]), None], [np.array([5.0]), np.array([2.0])]]
    whole, rare = all_reduce(gradients, [3, 1])
    assert whole == 2.0  # (3 + 5) / 4, where the mean of means is (1 + 5) / 2
    assert rare == 0.5
    assert all_reduce([[None], [None]], [1, 1]) == [None]


@pytest.mark.parametrize("shards", [0, 3, 6, -1, 2.0, "8"])
def test_shards_must_be_a_power_of_two(shards):
    with pytest.raises(ValueError, match="power of two"):
        check_shards(shards)
