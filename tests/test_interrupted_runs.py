"""Runs whose process is ended from outside, at any moment: they go on to the same numbers."""

import contextlib
import os
import re
import shlex
import signal
import subprocess

import numpy as np
import pytest

from tests.interrupting import (
    INTERVAL,
    LOCAL,
    RAY,
    SETTINGS,
    commit,
    condensing,
    iteration,
    reports,
    results,
    resuming,
)
from tests.making_runs import command, run

# Whoever sends SIGTERM kills after so many seconds, at times.
WITHIN_S = 10.0
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
LAST_WORD = {signal.SIGTERM: "idm-ray: terminated", signal.SIGINT: "idm-ray: interrupted"}
KINDS = {"local": LOCAL, "ray": RAY}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Pixels and accuracies of a run that nothing happens to."""
    return results(run(tmp_path_factory.mktemp("undisturbed") / "run", **SETTINGS).folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


# Moments: what has to be so when a run is ended.


def after(number):
    return lambda folder: iteration(folder) >= number


def evaluating(folder):
    """The first network of the evaluation at the end is there."""
    return any("accuracy" in line and line["iteration"] == 40 for line in reports(folder))


def writing_a_checkpoint(folder, number=12):
    """A file of the first checkpoint after an iteration is being written."""
    if iteration(folder) < number:
        return False
    with contextlib.suppress(FileNotFoundError):
        return any(name.startswith(".") for name in os.listdir(folder / "checkpoints"))
    return False


def assert_stopped(ended, number, folder):
    """It ended as it was told, in time, and its last two lines say how to go on."""
    assert ended.status == STATUS[number], ended.err
    assert ended.seconds < WITHIN_S
    # While Ray goes down, it may have something to say, too.
    lines = [line for line in ended.err.splitlines() if line and not re.match(r"\[20\d\d-", line)]
    *_, how, last = lines
    assert how.startswith("the run goes on ")
    assert how.endswith(f"with: idm-ray resume {shlex.quote(str(folder))}")
    assert last == LAST_WORD[number]
    assert "Traceback" not in ended.err


def assert_little_is_lost(folder):
    """One interval, and what was done while the last checkpoint was being written."""
    found = commit(folder)
    lost = iteration(folder) - (found.iteration if found else 0)
    assert lost <= 2 * INTERVAL
    return lost


def assert_goes_on(folder, undisturbed, *words):
    """It resumes in this process, to the same numbers, and leaves nothing behind."""
    outcome = command("resume", folder, *words)
    assert outcome.status == 0, outcome.err
    assert results(folder) == undisturbed
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("condensed.parquet", "config.yaml", "curves.png"),
        *("gallery.png", "metrics.jsonl", "summary.json", "tb"),
    }
    progress = [line["iteration"] for line in reports(folder) if "waiting" in line]
    assert progress == sorted(set(progress))


# --- Signals ---


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, after(7)),
        (signal.SIGINT, after(15)),
        (signal.SIGTERM, evaluating),
    ],
    ids=["SIGTERM while it condenses", "Ctrl-C", "SIGTERM while it evaluates"],
)
def test_a_run_that_is_told_to_stop_keeps_all_that_is_finished(folder, undisturbed, number, moment):
    with condensing(folder, **LOCAL) as started:
        assert started.until(lambda: moment(folder)), started.err
        ended = started.tell(number)
    assert_stopped(ended, number, folder)
    assert commit(folder).iteration >= iteration(folder)
    assert f"the run goes on from iteration {commit(folder).iteration} with: " in ended.err
    assert_goes_on(folder, undisturbed)


def test_who_tells_it_twice_does_not_wait_for_a_checkpoint(folder, undisturbed):
    with condensing(folder, **LOCAL) as started:
        assert started.until(lambda: iteration(folder) >= 7), started.err
        ended = started.tell(signal.SIGTERM, signal.SIGTERM)
    assert ended.status == 143, ended.err
    assert ended.seconds < WITHIN_S
    assert "Traceback" not in ended.err
    assert_goes_on(folder, undisturbed)


def test_ctrl_c_while_it_goes_on_is_no_different(folder, undisturbed):
    with condensing(folder, **LOCAL) as started:
        assert started.until(lambda: iteration(folder) >= 7), started.err
        started.kill()
    with resuming(folder) as started:
        assert started.until(lambda: iteration(folder) >= 20), started.err
        assert_stopped(started.tell(signal.SIGINT), signal.SIGINT, folder)
    assert commit(folder).iteration >= iteration(folder)
    assert_goes_on(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.ray
def test_sigterm_stops_a_run_on_ray_which_goes_on_there(folder, undisturbed):
    with condensing(folder, **RAY) as started:
        assert started.until(lambda: iteration(folder) >= 13), started.err
        assert_stopped(started.tell(signal.SIGTERM), signal.SIGTERM, folder)
    assert commit(folder).iteration >= iteration(folder)
    with resuming(folder) as started:
        assert started.end().status == 0, started.err
    assert results(folder) == undisturbed


# --- Kills ---


@pytest.mark.parametrize(
    "moment",
    [after(12), writing_a_checkpoint, evaluating],
    ids=["while it condenses", "while it writes a checkpoint", "while it evaluates"],
)
def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(folder, undisturbed, moment):
    with condensing(folder, **LOCAL) as started:
        assert started.until(lambda: moment(folder)), started.err
        assert started.kill().status == -signal.SIGKILL
    assert_little_is_lost(folder)
    assert_goes_on(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray_that_is_killed_goes_on_without_ray(folder, undisturbed):
    with condensing(folder, **RAY) as started:
        assert started.until(lambda: iteration(folder) >= 17), started.err
        assert started.kill().status == -signal.SIGKILL
    assert_little_is_lost(folder)
    assert_goes_on(folder, undisturbed, "--local")


# --- Any moment ---


# Lines that a run logs: iterations, and networks that were evaluated.
LINES = 40 + 4 + 7


def at_random(seed):
    """A random moment in the life of a run, from the start of its process to its end."""
    rng = np.random.default_rng(seed)
    # Less than nothing: before it has begun to condense.
    number, delay_s = int(rng.integers(-5, LINES)), rng.uniform(0, 0.3)

    def wait(started):
        if started.until(lambda: len(told(started.folder)) >= max(0, number)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.process.wait(timeout=delay_s if number >= 0 else -number * delay_s * 10)

    return wait


def told(folder):
    return [line for line in reports(folder) if "waiting" in line or "accuracy" in line]


def go_on(folder, options):
    """Whatever there is of a run, it comes to its end."""
    with condensing(folder, **options) as started:
        assert started.end().status == 0, started.err


ANY = [
    pytest.param(kind, seed, marks=[pytest.mark.slow, *[pytest.mark.ray] * (kind == "ray")])
    for seed in range(10)
    for kind in KINDS
]


@pytest.mark.parametrize(("kind", "seed"), ANY)
def test_sigterm_at_any_moment(folder, undisturbed, kind, seed):
    with condensing(folder, **KINDS[kind]) as started:
        at_random(seed)(started)
        ended = started.tell(signal.SIGTERM)
    finished = iteration(folder)
    has_run, newest = (folder / "config.yaml").exists(), None
    if has_run and not (folder / "summary.json").exists():
        newest = commit(folder)
    print(f"{kind} {seed}: {ended.status} in {ended.seconds:.1f} s at iteration {finished}")
    # Before it has its handler, it just dies; and it may have been done.
    assert ended.status in (143, -signal.SIGTERM, 0), ended.err
    assert ended.seconds < WITHIN_S
    assert "Traceback" not in ended.err
    if newest:
        assert newest.iteration >= finished
        assert_stopped(ended, signal.SIGTERM, folder)
    go_on(folder, LOCAL if seed % 2 else KINDS[kind])
    assert results(folder) == undisturbed


@pytest.mark.parametrize(("kind", "seed"), ANY)
def test_a_kill_at_any_moment(folder, undisturbed, kind, seed):
    with condensing(folder, **KINDS[kind]) as started:
        if seed < 3:
            started.until(lambda: writing_a_checkpoint(folder, 5 + 10 * seed))
        elif seed == 3:
            started.until(lambda: evaluating(folder))
        else:
            at_random(100 + seed)(started)
        started.kill()
    lost = None
    if (folder / "config.yaml").exists() and not (folder / "summary.json").exists():
        lost = assert_little_is_lost(folder)
    print(f"{kind} {seed}: killed at iteration {iteration(folder)}, lost {lost}")
    go_on(folder, LOCAL if seed % 2 else KINDS[kind])
    assert results(folder) == undisturbed


@pytest.mark.slow
def test_a_run_may_be_ended_again_and_again(folder, undisturbed):
    rng = np.random.default_rng(0)
    kills = 0
    while not (folder / "summary.json").exists():
        assert kills < 40, "it never comes to its end"
        target = iteration(folder) + int(rng.integers(1, 12))
        with condensing(folder, **LOCAL) as started:
            if not started.until(lambda target=target: iteration(folder) >= target):
                assert started.end().status == 0, started.err
            elif rng.integers(2):
                started.kill()
            else:
                started.tell(rng.choice([signal.SIGTERM, signal.SIGINT]))
        kills += 1
    assert kills > 3
    assert results(folder) == undisturbed


# An iteration of several seconds, nearly all of it training.
LONG = {
    "iterations": 3,
    "train_steps": 500,
    "checkpoint_interval": "300s",
    "repeats": 0,
    "eval_interval": 0,
    "whole_epochs": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_sigterm_does_not_wait_for_the_iteration_that_is_under_way(folder, kind):
    whole = folder.with_name("whole")
    options = {**LONG, **KINDS[kind]}
    go_on(whole, options)
    with condensing(folder, **options) as started:
        assert started.until(lambda: iteration(folder) >= 1), started.err
        ended = started.tell(signal.SIGTERM)
    assert_stopped(ended, signal.SIGTERM, folder)
    found = commit(folder)
    # Classes are matched before networks are trained; on Ray, the queue remembers older states.
    assert found.iteration in (1, 2)
    assert found.queue.iteration in ((1,) if kind == "local" else (0, 1))
    go_on(folder, options)
    assert results(folder) == results(whole)
