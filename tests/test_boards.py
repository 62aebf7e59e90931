"""What TensorBoard shows of runs, and that it is in nobody's way."""

import json

import numpy as np
import pytest

from idm_ray.progress import Announcement, Evaluated, Progress
from idm_ray.run import resume
from tests.making_runs import metrics, pixels, progress_of, run
from tests.results.events import events, scalars, values

OPTIONS = {"iterations": 4, "repeats": 2, "eval_interval": 2, "eval_epochs": 1}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed") / "run", **OPTIONS).folder


def shown(folder):
    """All scalars but those that depend on the clock."""
    found = scalars(folder / "tb")
    return {tag: points for tag, points in found.items() if not tag.startswith("speed/")}


def test_all_that_the_log_tells_is_shown_with_the_config_and_the_gallery(undisturbed):
    found = scalars(undisturbed / "tb")
    for line in progress_of(undisturbed):
        for name in line.keys() - {"iteration"}:
            (tag,) = (tag for tag in found if tag.rpartition("/")[2] == name)
            points = dict(found[tag])
            assert points[line["iteration"]] == pytest.approx(line[name], rel=1e-6)
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert [step for step, _ in found["accuracy/condensed"]] == [2, 4]
    for subject, name in (("condensed", "evaluation"), ("start", "start"), ("random", "random")):
        assert found[f"accuracy/{subject}"][-1] == (4, pytest.approx(summary[name]["mean"]))
    ((step, config),) = values(undisturbed / "tb", "config/text_summary")
    text = (undisturbed / "config.yaml").read_text()
    assert (step, config.tensor.string_val) == (0, [f"```yaml\n{text}\n```".encode()])
    ((step, picture),) = values(undisturbed / "tb", "gallery")
    assert step == 4
    assert picture.image.encoded_image_string == (undisturbed / "gallery.png").read_bytes()


def is_late(event):
    return isinstance(event, Progress) and event.iteration == 3


def is_half_evaluated(event):
    return isinstance(event, Evaluated) and (event.job.iteration, event.job.repeat) == (2, 0)


@pytest.mark.parametrize("moment", [is_late, is_half_evaluated])
def test_a_run_that_goes_on_shows_every_step_once(tmp_path, undisturbed, moment):
    def interrupt(event):
        if moment(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, listener=interrupt, **OPTIONS)
    assert shown(tmp_path)["loss/matching_loss"]
    resume(tmp_path)
    assert len([*(tmp_path / "tb").iterdir()]) == 2
    assert shown(tmp_path) == shown(undisturbed)
    assert len(values(tmp_path / "tb", "config/text_summary")) == 1
    assert len(values(tmp_path / "tb", "gallery")) == 1


def test_a_complete_run_that_is_resumed_begins_no_new_file(undisturbed):
    before = len(events(undisturbed / "tb"))
    resume(undisturbed)
    assert len(events(undisturbed / "tb")) == before


def test_without_a_place_for_events_a_run_says_so_once_and_is_the_same(
    tmp_path, undisturbed, capfd
):
    (tmp_path / "tb").write_text("in the way")
    said = []
    run(tmp_path, listener=said.append, **OPTIONS)
    warnings = [event.text for event in said if isinstance(event, Announcement) and event.warning]
    assert warnings == [f"cannot write to {tmp_path}/tb (File exists): TensorBoard shows nothing"]
    assert np.array_equal(pixels(tmp_path), pixels(undisturbed))
    assert len(metrics(tmp_path)) == len(metrics(undisturbed))
    assert "Traceback" not in capfd.readouterr().err
