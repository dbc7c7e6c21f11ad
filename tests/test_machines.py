"""Several machines' gradients, added up in the tree: pieces, exchanges, their bits, and what is sent."""

import contextlib
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pargrad.nn.functional as F
from pargrad import nn
from pargrad.data import ArrayData
from pargrad.parallel import NonFiniteError
from pargrad.parallel.arena import Arena, Layout, Spec, arena_size, private_memory
from pargrad.parallel.channel import Channel
from pargrad.parallel.cores import one_blas_thread
from pargrad.parallel.machines import Mail, Summing, cut_pieces, forget_others, shares_of, total_slot
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.pool import SerialPool
from pargrad.parallel.shards import aligned_nodes, all_nodes, owned_shards, reduce_tree
from pargrad.parallel.step import Step
from tests.simulated_machines import Machines, fill, work_of
from tests.training import CLASSES, OPTIMIZERS, WAYS, adamw, examples

CLUSTERS = [[1, 1], [2, 1, 1], [1, 1, 1], [3, 2], [1, 2, 1, 1]]


def halves(arena):
    """All that promise 2 speaks of, in both halves, as bytes."""
    return [
        array.tobytes()
        for half in arena.halves
        for arrays in (half.parameters.values(), *half.states.values(), half.buffers, [half.steps])
        for array in arrays
    ]


def steps_of(optimizer, count, size, number=4):
    options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    order = np.random.default_rng(0).permutation(count)
    return [Step(i + 1, 0, order[i * size : (i + 1) * size], options) for i in range(number)]


def serial_run(way, steps, data, clip_norm, shards):
    work, _ = work_of(way, shards)
    pool = SerialPool()
    pool.open(work)
    fill(pool, work_of(way, shards)[0])
    return list(pool.run(data, steps, clip_norm)), halves(pool.arena)


def cluster_run(way, steps, data, clip_norm, workers, shards):
    with Machines(way, workers, shards) as machines:
        for completed, step in enumerate(steps):
            machines.step(data, step, completed, clip_norm)
        return [halves(machine.arena) for machine in machines.machines], [
            machine.arena.results for machine in machines.machines
        ]


@pytest.mark.parametrize("workers", CLUSTERS, ids=str)
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("mlp-adamw", "even-shards")])
def test_every_machine_has_the_bits_of_one_process(way, workers):
    options = WAYS[way][3]
    shards = max(options.get("shards", 8), 1 << (sum(workers) - 1).bit_length())
    _, optimizer = work_of(way, shards)
    data = ArrayData(*examples(400))
    steps = steps_of(optimizer, 400, min(options["batch_size"], 61))
    with one_blas_thread():
        results, expected = serial_run(way, steps, data, options.get("clip_norm"), shards)
        states, rows = cluster_run(way, steps, data, options.get("clip_norm"), workers, shards)
    assert [state == expected for state in states] == [True] * len(workers)
    for table in rows:
        assert [table[step.number, 1] for step in steps] == [result.loss for result in results]


def test_an_optimizer_that_multiplies_matrices():
    assert "Muon" in OPTIMIZERS
    data = ArrayData(*examples(200))
    steps = steps_of(work_of("Muon", 8)[1], 200, 50, 2)
    with one_blas_thread():
        _, expected = serial_run("Muon", steps, data, None, 8)
        states, _ = cluster_run("Muon", steps, data, None, [2, 1], 8)
    assert states == [expected, expected]


def test_another_order_of_additions_is_seen():
    """The comparison above can fail: four shards have other sums than eight."""
    data = ArrayData(*examples(200))
    steps = steps_of(work_of("branching", 8)[1], 200, 50, 2)
    assert serial_run("branching", steps, data, None, 8)[1] != serial_run("branching", steps, data, None, 4)[1]


@pytest.mark.parametrize("machine", [0, 1])
def test_what_is_not_finite_is_found_alike_by_all(machine):
    x, y = examples(64)
    x[machine * 40 + 2] = np.nan
    step = steps_of(work_of("mlp-adamw", 8)[1], 64, 64, 1)[0]._replace(indices=np.arange(64))
    with (
        Machines("mlp-adamw", [1, 1]) as machines,
        pytest.raises(NonFiniteError, match=f"shard {(machine * 40 + 2) // 8} of 8"),
    ):
        before = [halves(each.arena) for each in machines.machines]
        machines.step(ArrayData(x, y), step, 0)
    assert [halves(each.arena) for each in machines.machines] == before


@pytest.mark.parametrize("workers", [[1, 1], [2, 1]], ids=str)
def test_shards_of_several_machines_exchange_statistics(workers, monkeypatch):
    """SyncBatchNorm needs all shards in the middle of a step."""

    def synchronized():
        return nn.Sequential(nn.Linear(12, 8), nn.SyncBatchNorm(8), nn.ReLU(), nn.Linear(8, CLASSES))

    monkeypatch.setitem(WAYS, "synchronized", (synchronized, adamw, F.cross_entropy, {}))
    data = ArrayData(*examples(200))
    steps = steps_of(work_of("synchronized", 8)[1], 200, 50, 3)
    with one_blas_thread():
        _, expected = serial_run("synchronized", steps, data, None, 8)
        states, _ = cluster_run("synchronized", steps, data, None, workers, 8)
    assert states == [expected] * len(workers)


# ----- what is sent -----


@pytest.mark.parametrize("workers", CLUSTERS, ids=str)
def test_what_is_sent_is_what_the_formula_says(workers):
    way, shards, count = "blocks", 8, len(workers)
    _, optimizer = work_of(way, shards)
    steps = steps_of(optimizer, 400, 61, 3)
    with Machines(way, workers, shards) as machines:
        for completed, step in enumerate(steps):
            machines.step(ArrayData(*examples(400)), step, completed)
        gradient = sum(p.numel() * 4 for p in work_of(way, shards)[0].model.parameters())
        for share, machine in zip(shares_of(workers, shards), machines.machines):
            nodes = len(aligned_nodes(share))
            formula = (nodes + 1) * (count - 1) / count * gradient
            assert machine.sent / len(steps) == pytest.approx(formula, rel=0.02)


# ----- shares and pieces -----


@given(st.lists(st.integers(1, 8), min_size=1, max_size=8), st.integers(0, 3))
def test_machines_share_the_shards_by_their_workers(workers, more):
    shards = (1 << (sum(workers) - 1).bit_length()) << more
    shares = shares_of(workers, shards)
    assert [shard for share in shares for shard in share] == list(range(shards))
    first = 0
    for share, count in zip(shares, workers):
        owned = [owned_shards(first + i, sum(workers), shards) for i in range(count)]
        assert (share.start, share.stop) == (owned[0].start, owned[-1].stop)
        assert sorted(i for start, size in all_nodes(count, share) for i in range(start, start + size)) == list(share)
        first += count


specs = st.lists(
    st.builds(
        lambda shape, dtype, group: Spec("p", shape, dtype, group),
        st.lists(st.integers(0, 300), max_size=2).map(tuple),
        st.sampled_from(["float32", "float64", "complex64"]),
        st.integers(-1, 1),
    ),
    max_size=12,
)


@given(specs, st.integers(1, 7))
@settings(max_examples=200)
def test_pieces_hold_every_element_once(specs, machines):
    layout = Layout(specs, [], 8, "element", 8)
    pieces = cut_pieces(layout, machines)
    held = {dtype: np.zeros(size, int) for dtype, size in layout.sizes.items()}
    for piece in pieces:
        for dtype, start, stop in piece:
            assert 0 <= start < stop <= layout.sizes[dtype]
            held[dtype][start:stop] += 1
    for spec, offset in zip(specs, layout.offsets):
        if spec.group >= 0:
            assert (held[spec.dtype][offset : offset + int(np.prod(spec.shape))] == 1).all()
    assert max((array.max() for array in held.values() if array.size), default=0) <= 1
    lengths = [sum(stop - start for _, start, stop in piece) for piece in pieces]
    assert max(lengths) - min(lengths) <= 1


def arena_of(specs, shards):
    layout = Layout(specs, [], shards, "element", shards)
    return Arena(layout, private_memory(arena_size(layout)))


@given(specs.map(lambda specs: [spec._replace(group=0) for spec in specs]), st.integers(0, 2**32), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_sum_over_machines_is_the_trees(specs, seed, machines):
    """Parts that are absent included, and the signs of zeros."""
    generator = np.random.default_rng(seed)
    arena = arena_of(specs, 8)
    arena.reached[:] = generator.integers(0, 2, arena.reached.shape)
    for slot in arena.slots:
        for array in slot.values():
            array[...] = generator.choice([0.0, -0.0, 1.0, 1e-8, -3.0, np.inf], len(array))
    summing, nodes = Summing(arena), []
    shares = shares_of([1] * machines, 8)
    for piece in cut_pieces(arena.layout, 3):
        for segment in piece:
            nodes = [
                (start, summing.node([(shard, 1) for shard in range(start, start + size)], segment))
                for share in shares
                for start, size in aligned_nodes(share)
            ]
            with np.errstate(invalid="ignore"):
                total = summing.whole(nodes)
                for i, spec in enumerate(specs):
                    offset = arena.layout.offsets[i]
                    low, high = max(offset, segment.start), min(offset + int(np.prod(spec.shape)), segment.stop)
                    if spec.dtype != segment.dtype or low >= high or not arena.reached[:, i].any():
                        continue
                    parts = [arena.slots[s][spec.dtype][low:high] if arena.reached[s, i] else None for s in range(8)]
                    expected = reduce_tree(parts, np.add)
                    assert total[low - segment.start : high - segment.start].tobytes() == expected.tobytes()


@pytest.mark.parametrize("workers", CLUSTERS, ids=str)
def test_the_whole_gradient_has_a_slot_that_is_no_node_of_the_machine(workers):
    for share in shares_of(workers, 8):
        assert total_slot(share, 8) not in share


def test_nodes_of_other_shards_are_forgotten():
    arena = arena_of([Spec("p", (3,), "float32", 0)], 8)
    for start, size in ((0, 2), (2, 1), (4, 4)):
        arena.done[start] = 7, size
    forget_others(arena, range(2, 6))
    assert arena.done[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


# ----- letters -----


def test_letters_of_a_placement_that_is_over_are_dropped():
    mail = Mail()
    mail.open(2)
    mail.deliver(1, 0, (0, 0), "late")
    mail.deliver(3, 0, (0, 0), "early")
    assert list(mail.letters.values()) == ["early"]
    mail.call_off(2)
    with pytest.raises(CalledOff):
        mail.receive((0, 0), 0)
    mail.open(3)
    assert mail.receive((0, 0), 0) == mail.receive((0, 0), 0) == "early"
    mail.forget(1)
    assert not mail.letters


def test_nobody_waits_for_letters_while_members_change():
    mail = Mail()
    mail.open(0)
    mail.deliver(0, 1, (0, 0), "there")
    mail.hold(True)
    with pytest.raises(CalledOff):
        mail.receive((0, 0), 1)
    mail.hold(False)
    assert mail.receive((0, 0), 1) == "there"


def test_an_envoy_needs_no_data_set_and_is_not_told_of_those_while_it_has_no_place():
    from pargrad.parallel.ray_agent import EnvoyWorker  # which imports ray

    here, there = socket.socketpair()
    with contextlib.closing(Channel(here)), contextlib.closing(Channel(there)) as channel:
        envoy = EnvoyWorker(channel, 1)
        assert envoy.data[7] is None
        envoy.forget(7)
        envoy.forget(8)
        assert not envoy.data
