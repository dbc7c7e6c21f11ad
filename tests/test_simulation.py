"""The simulated cluster: the same for the same seed, within 2 % of the closed form, and stopped by what stops a run."""

import json
import time
from dataclasses import replace

import pytest

from pargrad.cli import main
from pargrad.parallel import crew, crew_pool, simulation
from pargrad.parallel.plan import Job, Machine, predict
from pargrad.parallel.simulation import Clock, Scenario, expected_ends, expected_goodput, simulate

JOB = Job(parameters=10_000_000, flops_per_example=6e7, batch_size=16_384, shards=256)
FEW = Scenario(job=JOB, machine=Machine(), machines=16, max_failures=50)


def test_the_same_seed_gives_the_same_report():
    often = replace(FEW, failures_per_day=20.0, hours=6.0)
    first = simulate(often)
    assert first == simulate(often)
    assert first != simulate(replace(often, seed=1))


def test_nothing_is_lost_without_failures():
    report = simulate(replace(FEW, failures_per_day=0.0, hours=1.0))
    assert (report.failures, report.recomputed, report.ended) == (0, 0, None)
    assert report.goodput == pytest.approx(1.0, abs=1e-3)
    assert expected_goodput(replace(FEW, failures_per_day=0.0)) == 1.0


@pytest.mark.parametrize("changed", [
    {"failures_per_day": 1.0},
    {"failures_per_day": 10.0},
    {"failures_per_day": 40.0, "repair": 60.0},
    {"failures_per_day": 100.0, "detect": 1.0, "hours": 8.0},
    {"failures_per_day": 10.0, "detect": 20.0},
    {"failures_per_day": 10.0, "repair": 1800.0},
    {"failures_per_day": 5.0, "machines": 48, "job": replace(JOB, shards=1024)},
], ids=str)  # fmt: skip
def test_goodput_is_the_closed_form_within_2_percent(changed):
    scenario = replace(FEW, **changed)
    reports = [simulate(replace(scenario, seed=seed)) for seed in range(2)]
    assert all(report.failures > 5 for report in reports)
    goodput = sum(report.goodput for report in reports) / len(reports)
    assert goodput == pytest.approx(expected_goodput(scenario), rel=0.02)


def test_what_a_failure_costs_is_seen_in_the_closed_form():
    """With a failure's notice taken for nothing, the simulation is not within 2 % of it."""
    scenario = replace(FEW, failures_per_day=40.0)
    assert simulate(scenario).goodput != pytest.approx(expected_goodput(replace(scenario, detect=0.0)), rel=0.02)


def test_every_machine_that_fails_is_replaced():
    report = simulate(replace(FEW, failures_per_day=20.0))
    assert 0 <= report.failures - report.joined <= 5
    assert 8 <= report.fewest < 16


def test_the_driver_sends_the_messages_of_every_step():
    report = simulate(replace(FEW, failures_per_day=0.0, hours=1.0))
    step = predict(JOB, Machine(), 16).step
    assert step > crew_pool.AHEAD_SECONDS  # so each is sent alone
    assert report.messages == 16 * (report.steps + 1)  # and the places
    assert report.driver_load == pytest.approx(16 * Machine().call_seconds / step, rel=0.01)
    assert report.events < 100


def test_work_begun_in_vain_is_counted():
    # Repaired soon, since with fewer machines the steps are longer.
    often = replace(FEW, failures_per_day=40.0, hours=8.0, repair=1.0)
    report, step = simulate(often), predict(JOB, Machine(), 16).step
    assert report.recomputed == pytest.approx(report.failures * 16 * step / 2, rel=0.3)


def test_too_many_failures_in_a_row_end_the_run():
    storm = replace(FEW, failures_per_day=2000.0, max_failures=3, repair=1.0)
    report = simulate(storm)
    assert report.ended.startswith("WorkerLostError: machine ")
    assert "failure 4 in a row" in report.ended
    assert report.hours < 24
    assert expected_ends(storm) > 1
    assert expected_ends(replace(storm, failures_per_day=1.0)) < 1e-6


def test_below_the_least_it_waits_for_machines():
    scenario = replace(FEW, failures_per_day=10.0, repair=1000.0, least=16, hours=8.0)
    waits, goes_on = simulate(scenario), simulate(replace(scenario, least=1))
    assert waits.fewest < goes_on.steps
    assert waits.goodput < goes_on.goodput


def test_a_slow_machine_makes_all_slow():
    undisturbed = replace(FEW, failures_per_day=0.0, hours=0.5)
    report = simulate(replace(undisturbed, slow=0.3, slow_factor=2.0))
    found = predict(JOB, Machine(), 16)
    assert report.goodput == pytest.approx(found.step / (found.step + found.compute), rel=0.01)


def test_time_is_given_back():
    with pytest.raises(RuntimeError, match="on the way"), simulation.simulated_time(Clock()):
        assert crew.time is not time
        raise RuntimeError("on the way")
    assert crew.time is crew_pool.time is time
    assert crew.wait is crew_pool.wait is not Clock.wait


@pytest.mark.parametrize(("changed", "told"), [
    ({"machines": 1}, "machines=1: expected 2 or more"),
    ({"least": 17}, "least=17: expected 1 to 16"),
    ({"hours": 0}, "hours=0: expected more than 0"),
    ({"failures_per_day": -1}, "failures_per_day=-1: expected 0 or more"),
    ({"detect": -1}, "detect=-1"),
    ({"slow": 1.5}, "slow=1.5: expected 0 to 1"),
])  # fmt: skip
def test_a_wrong_scenario_is_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        replace(FEW, **changed)


def test_the_command_reports_goodput_and_the_closed_form(capsys):
    few = ["--machines", "16", "--shards", "256", "--batch-size", "16384", "--hours", "2", "--seed", "3"]
    assert main(["simulate", *few]) == 0
    assert "by the closed form" in capsys.readouterr().out
    assert main(["simulate", *few, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["goodput"] == pytest.approx(printed["expected"]["goodput"], rel=0.02)
    storm = ["--failures-per-day", "5000", "--repair", "1"]
    assert main(["simulate", *few, *storm]) == 4
    assert "ended after" in capsys.readouterr().out
    assert main(["simulate", *few, "--machines", "100"]) == 2
    assert "800 workers of 256 shards: write shards=1024 or more" in capsys.readouterr().err
