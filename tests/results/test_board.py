import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from idm_ray.results.board import Board
from tests.data.small_disk import on_a_small_disk
from tests.results.events import events, scalars, values


def progress(iteration, **numbers):
    return {"iteration": iteration, "matching_loss": 2.0, "waiting": 0.25} | numbers


def evaluated(repeat, accuracy, subject="condensed", iteration=4):
    report = {"subject": subject, "repeat": repeat, "iteration": iteration}
    return report | {"accuracy": accuracy}


def board(folder, *past, networks=None):
    return Board(folder / "tb", networks=networks or {("condensed", 4): 2}, past=past)


@pytest.fixture
def begun(tmp_path):
    """A board that has begun."""
    made = board(tmp_path)
    assert made.begin("seed: 0") is None
    return made


def test_numbers_of_a_line_stand_at_its_iteration_under_their_headings(begun, tmp_path):
    begun.add(progress(1, queue_size=3))
    begun.add(progress(5, train_loss=1.5))
    assert scalars(tmp_path / "tb") == {
        "loss/matching_loss": [(1, 2.0), (5, 2.0)],
        "loss/train_loss": [(5, 1.5)],
        "queue/queue_size": [(1, 3.0)],
        "speed/waiting": [(1, 0.25), (5, 0.25)],
    }


def test_lines_of_other_kinds_are_left_out(begun, tmp_path):
    before = len(events(tmp_path / "tb"))
    for line in ({"checkpoint": 0, "at_iteration": 1}, {"pushed": 1, "iteration": 2}, {"x": 1}):
        begun.add(line)
    assert len(events(tmp_path / "tb")) == before


def test_accuracies_are_told_as_their_mean_when_all_networks_are_tested(begun, tmp_path):
    begun.add(evaluated(0, 0.25))
    assert scalars(tmp_path / "tb") == {}
    begun.add(evaluated(0, 0.5, subject="start"))
    begun.add(evaluated(1, 0.75))
    assert scalars(tmp_path / "tb") == {"accuracy/condensed": [(4, 0.5)]}


def test_accuracies_by_which_an_iterate_is_selected_stand_apart(tmp_path):
    made = board(tmp_path, networks={("condensed", 4): 1, ("condensed_validation", 4): 1})
    made.begin("")
    made.add(evaluated(0, 0.25) | {"split": "validation"})
    made.add(evaluated(0, 0.5))
    found = scalars(tmp_path / "tb")
    assert found == {"accuracy/condensed_validation": [(4, 0.25)], "accuracy/condensed": [(4, 0.5)]}


def test_the_config_is_a_block_of_yaml_at_the_begin(begun, tmp_path):
    ((step, value),) = values(tmp_path / "tb", "config/text_summary")
    assert step == 0
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val == [b"```yaml\nseed: 0\n```"]


def test_a_run_that_goes_on_has_a_new_file_and_neither_config_nor_steps_twice(begun, tmp_path):
    begun.add(progress(1))
    begun.add(evaluated(0, 0.25))
    again = board(tmp_path, progress(1), evaluated(0, 0.25))
    assert again.begin("seed: 0") is None
    again.add(progress(2))
    again.add(evaluated(1, 0.75))
    names = [path.name for path in sorted((tmp_path / "tb").iterdir())]
    assert names == ["events.out.tfevents.0001", "events.out.tfevents.0002"]
    assert len(values(tmp_path / "tb", "config/text_summary")) == 1
    assert scalars(tmp_path / "tb")["loss/matching_loss"] == [(1, 2.0), (2, 2.0)]
    assert scalars(tmp_path / "tb")["accuracy/condensed"] == [(4, 0.5)]


def test_means_that_were_told_before_are_not_told_again(tmp_path):
    again = board(tmp_path, evaluated(0, 0.25), evaluated(1, 0.75))
    again.begin("")
    again.add(progress(5))
    assert "accuracy/condensed" not in scalars(tmp_path / "tb")


def test_a_small_picture_is_shown_as_it_is(begun, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "gallery.png")
    begun.show(tmp_path / "gallery.png", step=4)
    ((step, value),) = values(tmp_path / "tb", "gallery")
    assert (step, value.image.width, value.image.height) == (4, 30, 20)
    assert value.image.encoded_image_string == (tmp_path / "gallery.png").read_bytes()


def test_a_large_picture_is_reduced(begun, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "gallery.png")
    begun.show(tmp_path / "gallery.png", step=4)
    ((_, value),) = values(tmp_path / "tb", "gallery")
    assert (value.image.width, value.image.height) == (1600, 400)
    assert len(value.image.encoded_image_string) < 2**20
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as picture:
        assert picture.size == (1600, 400)


def test_a_picture_that_is_missing_is_left_out(begun, tmp_path):
    begun.show(tmp_path / "gallery.png", step=4)
    assert values(tmp_path / "tb", "gallery") == []


def test_a_report_costs_less_than_a_millisecond(begun):
    took = []
    for iteration in range(1, 50):
        began = time.perf_counter()
        begun.add(progress(iteration, **{f"number_{i}": 0.5 for i in range(12)}))
        took.append(time.perf_counter() - began)
    assert min(took) < 1e-3


# --- A disk that fails ---


def test_a_file_in_the_way_is_told_once_and_no_line_or_picture_is_missed(tmp_path, capfd):
    (tmp_path / "tb").write_text("mine")
    made = board(tmp_path)
    assert made.begin("seed: 0") == (
        f"cannot write to {tmp_path}/tb (File exists): TensorBoard shows nothing"
    )
    made.add(progress(1))
    made.show(tmp_path / "gallery.png", step=1)
    made.end()
    assert (tmp_path / "tb").read_text() == "mine"
    assert capfd.readouterr() == ("", "")


ON_A_FULL_DISK = """
import sys
from pathlib import Path
from idm_ray.results.board import Board
from tests.results.events import scalars

disk = Path(sys.argv[1])
board = Board(disk / "tb", networks={}, past=())
board.begin("seed: 0")

def add(*iterations):
    for iteration in iterations:
        board.add({"iteration": iteration, "waiting": 0.5} | {f"of {i}": 0.5 for i in range(9)})
    board.end()
    print([step for step, _ in scalars(disk / "tb")["speed/waiting"]])

add(1)
with open(disk / "filler", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
add(*range(2, 60))
(disk / "filler").unlink()
add(60)
"""


def test_a_full_disk_tears_no_event_and_loses_none(tmp_path, capfd):
    first, full, last = map(json.loads, on_a_small_disk(tmp_path, ON_A_FULL_DISK).splitlines())
    assert first == [1]
    assert full == [*range(1, len(full) + 1)]
    assert len(full) < 59
    assert last == [*range(1, 61)]
    assert capfd.readouterr().err == ""
