import json
import os
import signal
import subprocess
import sys

import pytest

from idm_ray.results.metrics_log import MetricsLog
from tests.data.small_disk import on_a_small_disk

PRETRAINED = {"pretrained": 0, "steps": 40}
PUSHED = {"iteration": 2, "pushed": 1, "member": 0}
EVALUATED = {"subject": "condensed", "repeat": 0, "iteration": 2, "accuracy": 0.5}


def progress(iteration, loss=0.5):
    return {"iteration": iteration, "matching_loss": loss, "waiting": 0.25}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def log_all(path, *reports):
    log = MetricsLog(path)
    for report in reports:
        assert log.add(report) is None
    log.flush()


# --- What is written ---


def test_reports_are_appended_line_by_line_and_are_there_at_once(path):
    log = MetricsLog(path)
    for iteration in (1, 2):
        log.add(progress(iteration))
        assert lines(path) == [progress(done) for done in range(1, iteration + 1)]
    assert path.read_text().endswith("}\n")


def test_a_log_without_reports_makes_no_file(path):
    MetricsLog(path).flush()
    assert not path.exists()


def test_a_report_with_nan_is_refused_and_not_written(path):
    log = MetricsLog(path)
    with pytest.raises(ValueError, match=r"expected finite numbers in a report, found .*nan"):
        log.add(progress(1, float("nan")))
    assert not path.exists()
    log_all(path, progress(1))
    assert lines(path) == [progress(1)]


# --- A run that goes back to its last checkpoint ---


@pytest.mark.parametrize("reopened", [False, True])
def test_what_is_reported_once_more_is_left_out(path, reopened):
    reports = (PRETRAINED, PUSHED, progress(2), EVALUATED)
    log = MetricsLog(path)
    for report in reports:
        log.add(report)
    if reopened:
        log = MetricsLog(path)
    for report in reports:
        assert log.add({**report, "seconds": 9.0}) is None
    assert lines(path) == list(reports)


@pytest.mark.parametrize(
    "other",
    [
        {**PRETRAINED, "pretrained": 1},
        {**PUSHED, "pushed": 2},
        {**EVALUATED, "repeat": 1},
        {**EVALUATED, "subject": "start"},
        {**EVALUATED, "iteration": 1},
        {**EVALUATED, "split": "validation"},
        progress(3),
    ],
)
def test_a_report_of_something_else_is_appended(path, other):
    reports = [PRETRAINED, PUSHED, progress(2), EVALUATED]
    log_all(path, *reports)
    log_all(path, other)
    assert lines(path) == [*reports, other]


def test_the_same_network_on_other_images_is_another_report_and_is_known_again(path):
    on_validation = {**EVALUATED, "split": "validation"}
    log_all(path, on_validation, EVALUATED)
    log_all(path, EVALUATED, on_validation)
    assert lines(path) == [on_validation, EVALUATED]


def test_progress_that_does_not_go_beyond_what_is_there_is_left_out(path):
    log_all(path, progress(5), progress(10))
    log_all(path, progress(7), progress(10), progress(12))
    assert [line["iteration"] for line in lines(path)] == [5, 10, 12]


def test_the_log_says_what_it_knows(path):
    log_all(path, PRETRAINED, PUSHED, progress(2), EVALUATED)
    log = MetricsLog(path)
    for report in (PRETRAINED, PUSHED, progress(1), progress(2), EVALUATED):
        assert log.knows(report)
    for report in ({**EVALUATED, "repeat": 1}, progress(3), {"note": "a"}):
        assert not log.knows(report)
    assert not log.add({"note": "a"})
    assert not log.knows({"note": "a"})


def test_other_kinds_say_nothing_about_progress(path):
    log_all(path, {**PUSHED, "iteration": 7}, {**EVALUATED, "iteration": 9}, progress(5))
    assert [line["iteration"] for line in lines(path)] == [7, 9, 5]


def test_a_report_of_an_unknown_kind_is_always_appended(path):
    log_all(path, {"note": "a"}, {"note": "a"})
    assert lines(path) == [{"note": "a"}] * 2


# --- What an earlier process has left ---


@pytest.mark.parametrize("cut", range(1, len(json.dumps(progress(2))) + 1, 7))
def test_a_torn_last_line_is_cut_off_and_can_be_reported_again(path, cut):
    log_all(path, progress(1), progress(2))
    os.truncate(path, path.stat().st_size - cut)
    log = MetricsLog(path)
    assert lines(path) == [progress(1)]
    log.add(progress(2))
    assert lines(path) == [progress(1), progress(2)]


def test_a_torn_only_line_leaves_an_empty_file(path):
    path.write_text('{"iteration": 1')
    MetricsLog(path)
    assert path.read_bytes() == b""


STRANGE = [
    b"",
    b"not json",
    b'{"iteration": 1',
    b"\xff\xfe",
    bytes(40),
    b"[1, 2]",
    b"7",
    b"null",
    b"[" * 100_000,
    b'{"iteration": [1]}',
    b'{"iteration": "9"}',
    b'{"iteration": {"a": 1}, "subject": "x", "repeat": null}',
]


@pytest.mark.parametrize("strange", STRANGE, ids=range(len(STRANGE)))
def test_lines_that_cannot_be_read_are_kept_and_ignored(path, strange):
    log_all(path, progress(1))
    before = path.read_bytes() + strange + b"\n"
    path.write_bytes(before)
    log_all(path, progress(1), progress(2))
    assert path.read_bytes() == before + json.dumps(progress(2)).encode() + b"\n"


KILLED = """
import os, signal, sys
from pathlib import Path
from idm_ray.results.metrics_log import MetricsLog
log = MetricsLog(Path(sys.argv[1]))
log.add({"iteration": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_it_has_reported(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert lines(path) == [{"iteration": 1}]


# --- A disk that fails ---


def test_lines_are_kept_while_there_is_no_writing_and_then_come_in_their_order(path):
    path = path.parent / "gone" / "metrics.jsonl"
    log = MetricsLog(path)
    assert [log.add(progress(iteration)) for iteration in (1, 2)] == [
        f"cannot write to {path} (No such file or directory): its lines are kept, and tried again "
        "with the next",
        None,
    ]
    with pytest.raises(FileNotFoundError, match=str(path)):
        log.flush()
    path.parent.mkdir()
    assert [log.add(progress(iteration)) for iteration in (2, 3, 4)] == [
        None,
        f"{path} can be written to again and is complete",
        None,
    ]
    assert [line["iteration"] for line in lines(path)] == [1, 2, 3, 4]
    log.flush()


def test_a_log_that_cannot_be_read_is_an_error(path):
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        MetricsLog(path)


ON_A_FULL_DISK = """
import sys
from pathlib import Path
from idm_ray.results.metrics_log import MetricsLog

folder = Path(sys.argv[1])
log = MetricsLog(folder / "metrics.jsonl")

def add(iteration):
    told = log.add({"iteration": iteration, "losses": "x" * 3000})
    content = (folder / "metrics.jsonl").read_bytes()
    whole = content.endswith(b"\\n") or not content
    print(iteration, content.count(b"\\n"), whole, told and told.replace(str(folder), "DISK"))

def fill(free):
    with open(folder / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - free)

add(1)
fill(free=0)
for iteration in range(2, 5):
    add(iteration)
try:
    log.flush()
except OSError as error:
    print(str(error).replace(str(folder), "DISK"))
(folder / "filler").unlink()
add(5)
add(6)
fill(free=0)
add(7)
add(8)
(folder / "filler").unlink()
log.flush()
print((folder / "metrics.jsonl").read_bytes().count(b"\\n"))
"""


def test_a_full_disk_takes_no_half_lines_and_loses_none(tmp_path):
    full = "cannot write to DISK/metrics.jsonl (No space left on device): its lines are kept, and "
    # A page of 4096 bytes holds a line of 3000 and a part of the next.
    assert on_a_small_disk(tmp_path, ON_A_FULL_DISK).splitlines() == [
        "1 1 True None",
        f"2 1 True {full}tried again with the next",
        "3 1 True None",
        "4 1 True None",
        "[Errno 28] No space left on device: 'DISK/metrics.jsonl'",
        "5 5 True DISK/metrics.jsonl can be written to again and is complete",
        "6 6 True None",
        f"7 6 True {full}tried again with the next",
        "8 6 True None",
        "8",
    ]


ON_A_READ_ONLY_DISK = """
import subprocess, sys
from pathlib import Path
from idm_ray.results.metrics_log import MetricsLog

def mount(how):
    subprocess.run(["mount", "-o", f"remount,{how}", sys.argv[1]], check=True)

path = Path(sys.argv[1], "metrics.jsonl")
MetricsLog(path).add({"iteration": 1})
with path.open("a") as file:
    file.write("torn")
mount("ro")
log = MetricsLog(path)
print(log.add({"iteration": 1}), log.add({"iteration": 2}).replace(sys.argv[1], "DISK"))
mount("rw")
print(log.add({"iteration": 3}).replace(sys.argv[1], "DISK"))
print(path.read_text().split("\\n"))
"""


def test_a_disk_that_is_read_only_for_a_while_ends_nothing(tmp_path):
    assert on_a_small_disk(tmp_path, ON_A_READ_ONLY_DISK).splitlines() == [
        "None cannot write to DISK/metrics.jsonl (Read-only file system): its lines are kept, and "
        "tried again with the next",
        "DISK/metrics.jsonl can be written to again and is complete",
        str([*(json.dumps({"iteration": iteration}) for iteration in (1, 2, 3)), ""]),
    ]
