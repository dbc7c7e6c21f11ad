"""The plan: its formulas, what it proposes, how it is calibrated and checked, and what it refuses."""

import json
import math

import pytest

from pargrad.cli import main
from pargrad.parallel import calibration, ray_messages
from pargrad.parallel.crew_pool import AHEAD_SECONDS
from pargrad.parallel.plan import (
    Job,
    Machine,
    best_shards,
    best_two_level_seconds,
    predict,
    propose,
    spread_over,
    steps_ahead,
    two_level_seconds,
)
from pargrad.parallel.shards import aligned_nodes

JOB = Job(parameters=1_000_000, flops_per_example=6e6, batch_size=4096, shards=512)
FREE = Machine(
    message_seconds=0, call_seconds=0, latency=0, shard_seconds=0, step_seconds=0, meeting_seconds=0, driver_seconds=0,
    agent_seconds=0,
)  # fmt: skip
FAST = {f"{what}_bandwidth": 1e18 for what in ("memory", "core", "cache", "link", "message")}


def test_one_machine_sends_nothing():
    alone = predict(JOB, Machine(), 1)
    assert (alone.bytes_sent, alone.exchange, alone.driver) == (0, 0, 0)
    assert alone.step == alone.compute + alone.reduce


@pytest.mark.parametrize("machines", [2, 4, 8, 16, 32, 64])
def test_powers_of_two_send_two_gradients_nearly(machines):
    found = predict(JOB, Machine(), machines)
    assert found.nodes == 1
    assert found.bytes_sent == 2 * (machines - 1) / machines * 4_000_000


@pytest.mark.parametrize(("machines", "shards"), [(3, 64), (5, 64), (6, 128), (7, 512), (12, 512)])
def test_other_numbers_of_machines_send_by_their_nodes(machines, shards):
    ranges = [range(m * shards // machines, (m + 1) * shards // machines) for m in range(machines)]
    nodes = max(len(aligned_nodes(share)) for share in ranges)
    found = predict(Job(1000, 6000, 4096, shards), Machine(), machines)
    assert found.nodes == nodes > 1
    assert found.bytes_sent == pytest.approx((nodes + 1) * (machines - 1) / machines * 4000)


def test_the_nodes_of_unequal_machines_are_counted():
    assert spread_over((4, 2, 2), 8) == (1, 4, 1, 3)
    assert spread_over((1, 1, 1), 8) == (3, 2, 2, 5)
    assert spread_over((1, 1, 1, 1), 8) == (2, 1, 1, 4)


def test_each_number_lengthens_its_part():
    usual = predict(JOB, Machine(), 8)
    for name, change, part in (
        ("gflops", 0.5, "compute"),
        ("core_bandwidth", 0.5, "exchange"),
        ("link_bandwidth", 0.1, "exchange"),
        ("latency", 100, "exchange"),
        ("message_seconds", 10, "exchange"),
        ("message_bandwidth", 0.1, "exchange"),
        ("call_seconds", 10, "driver"),
        ("shard_seconds", 10, "compute"),
        ("step_seconds", 10, "compute"),
        ("meeting_seconds", 10, "reduce"),
        ("memory_bandwidth", 0.1, "reduce"),
    ):
        other = predict(JOB, Machine(**{name: getattr(Machine(), name) * change}), 8)
        assert getattr(other, part) > getattr(usual, part), name


def test_without_costs_beside_them_the_products_are_all_there_is():
    found = predict(JOB, Machine(**{**vars(FREE), **FAST}), 8)
    assert found.step == pytest.approx(4096 * 6e6 / (8 * 8 * 30e9), rel=1e-6)


def test_what_is_in_caches_is_read_faster():
    small, large = Job(1_000_000, 6e6, 4096, 512), Job(2_000_000, 6e6, 4096, 512)
    for job, part in ((small, "cache_bandwidth"), (large, "memory_bandwidth")):
        slower = Machine(**{part: getattr(Machine(), part) / 2})
        other = {small: large, large: small}[job]
        assert predict(job, slower, 8).compute > predict(job, Machine(), 8).compute
        assert predict(other, slower, 8).compute == predict(other, Machine(), 8).compute


def test_machines_of_one_host_share_its_cores():
    free = Machine(**{**vars(FREE), **FAST, "cores": 1})
    alone, shared = predict(JOB, free, 4).step, predict(JOB, Machine(**{**vars(free), "host_cores": 2}), 4).step
    assert shared == pytest.approx(2 * alone, rel=1e-3)
    for name in ("driver_seconds", "meeting_seconds", "message_seconds", "agent_seconds", "step_seconds"):
        costly = Machine(**{**vars(free), "host_cores": 2, name: 0.1})
        assert predict(JOB, costly, 4).step > shared + 0.04, name
    assert predict(JOB, Machine(**{**vars(free), "host_cores": 1000}), 4).step == pytest.approx(alone, rel=1e-3)


def test_a_driver_that_cannot_follow_is_what_a_step_takes():
    found = predict(JOB, Machine(call_seconds=1.0), 8)
    assert found.step == found.driver > found.compute + found.exchange


def test_agents_work_beside_the_others_in_the_envoys_process():
    machine = Machine(**{**vars(FREE), **FAST, "message_seconds": 1e-3})
    none, some, much = (
        predict(JOB, Machine(**{**vars(machine), "agent_seconds": each}), 4) for each in (0.0, 1e-3, 10.0)
    )
    assert some.work == pytest.approx(none.work + 4e-3)
    assert some.step == none.step
    assert much.step == pytest.approx(10.0 + 2 * 3 * 1e-3)
    assert predict(JOB, Machine(agent_seconds=10.0), 1).work == predict(JOB, Machine(), 1).work


def test_steps_are_sent_ahead_as_the_driver_sends_them():
    assert [steps_ahead(seconds) for seconds in (AHEAD_SECONDS / 1000, AHEAD_SECONDS / 10, AHEAD_SECONDS, 9.0)] == [
        64, 10, 1, 1,
    ]  # fmt: skip


def test_more_shards_are_proposed_where_machines_do_not_divide_them():
    found = best_shards(Job(1_000_000, 6e7, 1 << 16, 1), Machine(), 3)
    assert found.shards > 32
    assert best_shards(Job(1_000_000, 6e7, 16, 1), Machine(), 3) is None


def test_the_proposed_batch_is_the_smallest_that_is_efficient():
    (alone, many), job = propose(JOB, Machine(), [1, 16]), JOB
    assert alone.efficiency == 1
    assert (alone.prediction.batch_size, alone.prediction.machines) == (job.batch_size, 1)
    assert many.efficiency >= 0.8
    half = Job(job.parameters, job.flops_per_example, many.prediction.batch_size // 2, 1)
    smaller = best_shards(half, Machine(), 16)
    assert smaller.examples_per_second / (16 * alone.prediction.examples_per_second) < 0.8


def test_two_levels_send_less_often():
    flat, levels = predict(JOB, Machine(cores=1), 512).exchange, best_two_level_seconds(JOB, Machine(cores=1), 512)
    assert levels < flat / 4
    assert best_two_level_seconds(JOB, Machine(), 1) == 0
    free = Machine(**{**vars(FREE), **FAST, "link_bandwidth": 4e6})
    assert two_level_seconds(JOB, free, 64, 8) == pytest.approx(2 * 7 / 8 + 2 * 7 / 8 / 8)


@pytest.mark.parametrize(("wrong", "told"), [
    (lambda: Job(0, 1.0, 8), "parameters=0: expected more than 0"),
    (lambda: Job(1, math.nan, 8), "flops_per_example=nan"),
    (lambda: Job(1, 1.0, 8, shards=16), "some would be empty; write at most shards=8"),
    (lambda: Job(1, 1.0, 8, shards=6), "power of two, got 6"),
    (lambda: Machine(link_bandwidth=0), "link_bandwidth=0: expected more than 0"),
    (lambda: Machine(latency=-1), "latency=-1: expected 0 or more"),
    (lambda: predict(JOB, Machine(), 0), "1 machine or more, got 0"),
    (lambda: predict(JOB, Machine(), 100), "800 workers of 512 shards: write shards=1024 or more"),
    (lambda: list(propose(JOB, Machine(), [1], efficiency=2)), "efficiency=2"),
    (lambda: list(propose(Job(1, 1.0, 4, 1), Machine(), [1])), "less than one example a core: write 8"),
    (lambda: calibration.parse_widths("784-x"), "'784-x' is no network: write"),
])  # fmt: skip
def test_what_is_wrong_is_said(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


# ----- calibration -----


def test_a_network_is_counted_as_it_is():
    widths = calibration.parse_widths("784-128-64-10")
    job = calibration.job_of(widths, 128, 8)
    assert job.parameters == sum(p.numel() for p in calibration.network(widths).parameters()) == 109_386
    assert job.flops_per_example == 4 * 784 * 128 + 6 * (128 * 64 + 64 * 10)


def test_calibration_finds_the_machine_again(monkeypatch):
    true = Machine(
        gflops=20.0, core_bandwidth=5e9, memory_bandwidth=7e9, cache_bandwidth=1e10, shard_seconds=0.0,
        step_seconds=1e-3, meeting_seconds=2e-4, driver_seconds=3e-4,
    )  # fmt: skip

    def step_of(widths, batch_size, shards, num_workers=0):
        seconds = predict(calibration.job_of(widths, batch_size, shards), true, (max(num_workers, 1),)).step
        return calibration.Taken(seconds, true.driver_seconds if num_workers else seconds, seconds, seconds)

    monkeypatch.setattr(calibration, "step_of", step_of)
    monkeypatch.setattr(calibration, "copy_bandwidth", lambda cores=1: 5e9 if cores == 1 else 7e9)
    monkeypatch.setattr(calibration, "available_cores", lambda: 2)
    found = calibration.calibrate(Machine())
    for name, value in vars(true).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize(("cores", "workers"), [(1, {0, 1}), (2, {0, 1, 2})])
def test_predictions_are_written_then_checked(cores, workers, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calibration, "step_of", lambda *arguments: calibration.Taken(0.25, 0.01, 0.2, 0.6))
    monkeypatch.setattr(calibration, "available_cores", lambda: cores)
    monkeypatch.setattr(calibration, "number_of_nodes", lambda: (0, 0))
    path = str(tmp_path / "said.json")
    assert main(["plan", "--predict", path]) == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert all(one["seen"] is None and one["predicted"] > 0 for one in said["predictions"])
    assert len({one["widths"] for one in said["predictions"]}) == 2
    assert {one["num_workers"] for one in said["predictions"]} == workers
    capsys.readouterr()
    assert main(["plan", "--check", path, "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked == [{**one, "seen": 0.25, "processor": 0.6 / cores} for one in said["predictions"]]
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert main(["plan", "--check", path]) == 0
    printed = capsys.readouterr().out
    assert "250.0 ms" in printed
    assert "this machine is busy (a load of 1000.0" in printed


@pytest.mark.parametrize(("nodes", "hosts", "shared"), [(3, 1, True), (2, 2, False)])
def test_on_nodes_of_a_ray_a_worker_on_each_is_predicted(nodes, hosts, shared, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "available_cores", lambda: 2)
    monkeypatch.setattr(calibration, "number_of_nodes", lambda: (nodes, hosts))
    path, machine = str(tmp_path / "said.json"), Machine(message_seconds=1.0)
    said = calibration.write_predictions(path, machine)
    assert {(one.num_workers, one.nodes) for one in said} == {(0, count) for count in range(1, nodes + 1)}
    job = calibration.job_of(calibration.parse_widths(said[1].widths), said[1].batch_size, 8)
    there = Machine(message_seconds=1.0, host_cores=2) if shared else machine
    assert said[1].predicted == predict(job, there, (1, 1)).step
    monkeypatch.setattr(calibration, "step_of", lambda *arguments: calibration.Taken(0.25, 0.01, 0.2, 0.6))
    assert {one.processor for one in calibration.check_predictions(path)} == {0.3 if shared else None}
    monkeypatch.setattr(calibration, "number_of_nodes", lambda: (0, 0))
    with pytest.raises(ValueError, match="nodes of a Ray: say which one, as in --address auto"):
        next(calibration.check_predictions(path))


def test_messages_are_measured_between_two_nodes(monkeypatch):
    monkeypatch.setattr(calibration, "number_of_nodes", lambda: (1, 1))
    with pytest.raises(ValueError, match="has one node, and messages are measured between two"):
        calibration.calibrate_messages(Machine())


@pytest.mark.parametrize("hosts", [1, 2])
def test_what_agents_cost_is_what_two_nodes_compute_beyond_what_is_known(hosts, monkeypatch):
    costs = ray_messages.Costs(message_seconds=2e-3, message_bandwidth=5e8, call_seconds=4e-4, latency=3e-4)
    true = Machine(agent_seconds=7e-3, **costs._asdict())

    def step_of(widths, batch_size, shards, num_workers=0, nodes=0):
        job, machine = calibration.job_of(widths, batch_size, shards), calibration.on_these_hosts(true)
        return calibration.Taken(math.nan, math.nan, math.nan, predict(job, machine, (1,) * nodes).work)

    monkeypatch.setattr(calibration, "step_of", step_of)
    monkeypatch.setattr(calibration, "number_of_nodes", lambda: (2, hosts))
    monkeypatch.setattr(ray_messages, "measure_messages", lambda: costs)
    found = calibration.calibrate_messages(Machine())
    assert vars(found) == {**vars(true), "agent_seconds": pytest.approx(true.agent_seconds)}


def test_a_step_is_timed(monkeypatch):
    monkeypatch.setattr(calibration, "REPEATS", 2)
    taken = calibration.step_of((64, 256, 10), 64, 4)
    assert all(-0.01 < seconds < 1 for seconds in taken)  # a difference of two times, which may be lost in their noise
    assert taken.driver <= taken.busiest


def test_a_step_is_no_shorter_than_its_busiest_process_nor_than_all_on_the_cores():
    taken = calibration.Taken(1.0, 0.1, 0.4, 1.0)
    assert [taken.processor(cores) for cores in (1, 2, 4)] == [1.0, 0.5, 0.4]


# ----- the command -----


def test_the_table_has_a_line_for_each_number_of_machines(capsys):
    assert main(["plan", "--machines", "1,3,100", "--most-batch", "512", "--batch-size", "256"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["1", "3", "100"]
    assert "--most-batch" in lines[4]


def test_json_with_the_shards_given(capsys):
    arguments = ["--shards", "64", "--machines", "1,2", "--cores", "4", "--link-gigabits", "1", "--json"]
    assert main(["plan", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["machine"]["link_bandwidth"] == 1e9 / 8
    assert [row["shards"] for row in printed["plan"]] == [64, 64]
    assert printed["plan"][1]["bytes_sent"] == 4_000_000


@pytest.mark.parametrize(("content", "told"), [
    ('{"gigaflops": 3}', "gigaflops is not known; there are cores, gflops"),
    ("[1]", "no JSON object"),
    ("nothing", "no JSON object"),
    ('{"cores": 0}', "cores=0: expected more than 0"),
])  # fmt: skip
def test_a_wrong_file_of_a_machine_ends_with_2(content, told, tmp_path, capsys):
    (tmp_path / "machine.json").write_text(content)
    assert main(["plan", "--machine", str(tmp_path / "machine.json")]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "told"), [
    (["--machines", "1,x"], "separated by commas, as in 1,10,100"),
    (["--machines", "0"], "whole numbers above 0"),
    (["--check", "/nonexistent.json"], "/nonexistent.json"),
    (["--parameters", "0"], "parameters=0"),
])  # fmt: skip
def test_wrong_values_end_with_2(arguments, told, capsys):
    assert main(["plan", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_file_without_predictions_is_refused(tmp_path, capsys):
    (tmp_path / "said.json").write_text("{}")
    assert main(["plan", "--check", str(tmp_path / "said.json")]) == 2
    assert "pargrad plan --predict" in capsys.readouterr().err
