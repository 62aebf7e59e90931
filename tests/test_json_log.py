"""Structured logs: a line of JSON for each thing that happens, with run, actor and iteration."""

import io
import json
import logging

import pytest

from idm_ray.execution import Entered, Finished, Standing, Started
from idm_ray.json_log import JsonLog, RecordsAsJson
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Advanced, Announcement, Committed, Evaluated, Lost, Progress
from idm_ray.searches.trials import TrialResult
from idm_ray.work_log import DRIVER, LINE_EVERY_S, WorkLog
from tests.making_runs import TINY_WORDS, command


def told(*events):
    lines = []
    log = JsonLog(lines.append)
    for event in events:
        log(event)
    log.close()
    return [json.loads(line) for line in lines]


def trial(status, **of):
    return TrialResult(search="s", label="x 1", options={}, seed=0, status=status, **of)


def test_every_line_has_time_level_run_actor_iteration_and_event():
    events = [
        Announcement("before there is a folder"),
        Entered("digits-1"),
        Started("condense", 10, 4),
        Progress(iteration=5, losses={"matching_loss": 1.5}, queue={"queue_size": 3}, waiting=0.25),
        Announcement("strange", warning=True),
        Committed(number=1, iteration=5, bytes=10, written_bytes=10, seconds=0.5),
        Lost("class actor 0 lost", True, names=("class actor 0",), so_far=1),
        Advanced(3, "half"),
        Evaluated(job=EvaluationJob(subject="random", repeat=1, iteration=5), accuracy=0.5),
        Finished("folder", {"ipc": 1}),
    ]
    lines = told(*events)
    assert all(
        list(line)[:6] == ["time", "level", "run", "actor", "iteration", "event"] for line in lines
    )
    assert [line["event"] for line in lines] == [
        "message",
        "started",
        "progress",
        "message",
        "checkpoint",
        "lost",
        "advanced",
        "evaluated",
        "finished",
    ]
    assert [line["run"] for line in lines] == [None] + ["digits-1"] * 8
    assert [line["iteration"] for line in lines] == [None, 4] + [5] * 7
    assert lines[2]["matching_loss"] == 1.5
    assert lines[2]["queue_size"] == 3
    assert [line["level"] for line in lines if line["level"] != "info"] == ["warning", "warning"]
    assert {line["actor"] for line in lines} == {DRIVER, "class actor 0"}
    assert lines[-2]["accuracy"] == 0.5
    assert lines[-1]["summary"] == {"ipc": 1}


def test_a_trial_of_a_search_has_a_line_when_it_ends():
    running = Standing(trials=(trial("running"),), total=1)
    done = Standing(trials=(trial("done", accuracies=(0.5,), iterations=7),), total=1)
    (line,) = told(running, done, done)
    assert (line["event"], line["status"], line["iteration"]) == ("trial", "done", 7)
    assert line["trial"] == "s x 1, seed 0"


def test_an_actor_says_what_it_did_at_most_every_half_a_minute():
    lines, now = [], [0.0]
    log = WorkLog("run", "class actor 1", write=lines.append, clock=lambda: now[0])
    for iteration in range(1, 100):
        log.worked(iteration, 1.0)
        now[0] += 1.0
    found = [json.loads(line) for line in lines]
    assert [line["iteration"] for line in found] == [1, 31, 61, 91]
    assert [line["busy_s"] for line in found] == [1.0] + [LINE_EVERY_S] * 3
    assert {(line["run"], line["actor"]) for line in found} == {("run", "class actor 1")}


def test_what_libraries_log_is_json_too(monkeypatch):
    monkeypatch.setattr("sys.stderr", text := io.StringIO())
    logger = logging.Logger("a library")
    logger.addHandler(RecordsAsJson())
    logger.warning("waiting for %s", "room")
    line = json.loads(text.getvalue())
    assert (line["level"], line["event"], line["message"]) == ("warning", "log", "waiting for room")
    assert line["logger"] == "a library"


def test_a_traceback_that_a_library_logs_is_in_its_line(monkeypatch):
    monkeypatch.setattr("sys.stderr", text := io.StringIO())
    logger = logging.Logger("a library")
    logger.addHandler(RecordsAsJson())
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("it went wrong")
    line = json.loads(text.getvalue())
    assert line["message"] == "it went wrong"
    assert line["traceback"].endswith("KeyError: 'lost'")


def test_a_record_that_cannot_be_written_is_no_affair_of_whoever_logged_it(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    logger = logging.Logger("a library")
    logger.addHandler(RecordsAsJson())
    logger.warning("%d of them", "three")


def test_a_closed_standard_error_ends_nothing(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError("No space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    JsonLog()(Announcement("a line"))


@pytest.fixture
def root_handlers(monkeypatch):
    """Those of the root logger are put back."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nothere"], "expected digits, "),
        (["--ipc", "0"], "ipc must be at least 1"),
        (["--ipcc", "3"], "--ipc"),
    ],
)
def test_whatever_ends_a_command_is_json_too(tmp_path, root_handlers, words, said):
    told = command("condense", "--log-format", "json", "--out", tmp_path / "run", *words)
    assert told.status == 2
    *_, last = [json.loads(line) for line in told.err.splitlines()]
    assert (last["event"], last["level"]) == ("ended", "error")
    assert said in last["message"]


def test_a_whole_run_is_json_alone_and_the_next_command_is_not(tmp_path, root_handlers):
    told = command("condense", "--log-format", "json", "--out", tmp_path / "run", *TINY_WORDS)
    assert told.status == 0
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert lines[-1]["event"] == "finished"
    assert {line["run"] for line in lines} == {None, "run"}
    plain = command("condense", "--out", tmp_path / "run", *TINY_WORDS)
    assert plain.err.splitlines()[-1].startswith("idm-ray: ")


def test_the_environment_may_ask_for_json(tmp_path, root_handlers, monkeypatch):
    monkeypatch.setenv("IDM_RAY_LOG_FORMAT", "json")
    told = command("condense", "--data", "nothere", "--out", tmp_path / "run")
    assert json.loads(told.err.splitlines()[-1])["event"] == "ended"
