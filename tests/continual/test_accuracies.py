"""The log of accuracies: whole lines, read again, whatever else the file holds."""

import json

import pytest

from idm_ray.continual.accuracies import FILE, Accuracies
from idm_ray.continual.course import NetworkJob
from idm_ray.continual.network import Score
from idm_ray.storage import Location

JOB = NetworkJob(method="idm", order=2, step=3, repeat=1)
SCORE = Score(accuracy=0.1 + 0.2, seconds=1.5)


def test_a_line_says_which_network_and_what_it_came_to(tmp_path):
    log = Accuracies(Location.at(tmp_path))
    assert log.add(JOB, SCORE, 30) is None
    (line,) = (tmp_path / FILE).read_text().splitlines()
    assert json.loads(line) == {
        **{"method": "idm", "order": 2, "step": 3, "repeat": 1, "num_classes": 30},
        **{"accuracy": 0.1 + 0.2, "seconds": 1.5},
    }


def test_what_was_found_is_found_again_to_the_last_bit(tmp_path):
    Accuracies(Location.at(tmp_path)).add(JOB, SCORE, 30)
    again = Accuracies(Location.at(tmp_path))
    assert again.found == {JOB: SCORE}
    other = NetworkJob(method="dm", order=2, step=3, repeat=1)
    again.add(other, SCORE, 30)
    assert Accuracies(Location.at(tmp_path)).found == {JOB: SCORE, other: SCORE}


@pytest.mark.parametrize("broken", ["no JSON", "[1]", '{"method": "dm"}', '{"accuracy": 1'])
def test_lines_that_cannot_be_read_are_kept_and_ignored(tmp_path, broken):
    (tmp_path / FILE).write_text(broken)
    log = Accuracies(Location.at(tmp_path))
    assert log.found == {}
    log.add(JOB, SCORE, 30)
    lines = (tmp_path / FILE).read_text().splitlines()
    assert lines[0] == broken
    assert Accuracies(Location.at(tmp_path)).found == {JOB: SCORE}


def test_a_disk_that_fails_is_told_once_and_loses_nothing(tmp_path):
    log = Accuracies(Location.at(tmp_path))
    (tmp_path / FILE).mkdir()
    told = log.add(JOB, SCORE, 30)
    assert told.startswith(f"cannot write {FILE} (")
    assert log.add(NetworkJob(method="dm", order=0, step=1, repeat=0), SCORE, 10) is None
    with pytest.raises(OSError, match=FILE):
        log.flush()
    (tmp_path / FILE).rmdir()
    log.flush()
    assert len(Accuracies(Location.at(tmp_path)).found) == 2
