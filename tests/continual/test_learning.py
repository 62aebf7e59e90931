"""Whole courses in this process: memories step by step, and nothing computed twice."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.continual.course import Course
from idm_ray.continual.learning import learn
from idm_ray.continual.memories import put_together
from idm_ray.continual.orders import class_order, cut
from idm_ray.data.dataset import open_dataset
from idm_ray.errors import UserError
from idm_ray.execution import Finished
from idm_ray.formats.opening import read_set
from idm_ray.progress import Advanced, Announcement
from idm_ray.results.condensed import read_arrays
from idm_ray.run import condense
from idm_ray.storage import Location
from tests.continual.making import COURSE, OPTIONS, learn_small, memories


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A course that came to its end, and what was told."""
    folder, told = tmp_path_factory.mktemp("finished") / "course", []
    return folder, learn_small(folder, listener=told.append), told


def lines(folder):
    return [json.loads(line) for line in (folder / "accuracies.jsonl").read_text().splitlines()]


def accuracies(folder):
    return {
        (line["method"], line["order"], line["step"], line["repeat"]): line["accuracy"]
        for line in lines(folder)
    }


def test_every_memory_is_the_run_of_its_step_s_classes(finished, tmp_path):
    folder, _, _ = finished
    assert len(memories(folder)) == 2 * 2 * 2
    steps = cut(class_order(1, 10), 2)
    images, _, card = read_arrays(
        folder / "memories" / "order1" / "step2-idm" / "condensed.parquet"
    )
    assert card.class_names == tuple(map(str, steps[1]))
    assert (card.ipc, card.method, card.recipe) == (2, "idm", "digits")
    assert (card.seed, card.partition, card.flips) == (1, 1, False)
    options = OPTIONS | {"repeats": 0, "partition": 1, "seed": 1}
    alone = condense(out=tmp_path / "run", classes=",".join(card.class_names), **options)
    again, _, _ = read_arrays(alone.folder / "condensed.parquet")
    assert again.tobytes() == images.tobytes()


def test_every_network_has_a_line_and_every_point_its_networks(finished):
    folder, learned, _ = finished
    assert len(lines(folder)) == len(accuracies(folder)) == 2 * 2 * 2 * 2
    for point in learned.points:
        networks = [
            accuracies(folder)[point.method, order, point.step, repeat]
            for order in (0, 1)
            for repeat in (0, 1)
        ]
        assert list(point.accuracies) == networks
    assert [point.num_classes for point in learned.curve("dm")] == [5, 10]
    content = json.loads((folder / "results.json").read_bytes())
    assert content["curves"]["dm"][0]["mean"] == learned.points[0].mean
    assert content["made"]["options"]["eval_epochs"] == 2
    assert {"results.csv", "continual.png", "continual.svg"} <= {p.name for p in folder.iterdir()}


def test_people_are_told_of_each_memory_and_network_but_not_of_single_runs(finished):
    _, _, told = finished
    said = [event.text for event in told if isinstance(event, Announcement)]
    assert len([text for text in said if text.startswith("memory ")]) == 8
    assert "memory 1 of 8: order 0, step 1, dm" in said
    assert [event.done for event in told if isinstance(event, Advanced)] == list(range(1, 17))
    assert not [event for event in told if isinstance(event, Finished)]


def test_a_course_that_is_complete_computes_nothing(finished):
    folder, learned, _ = finished
    before, log = memories(folder), (folder / "accuracies.jsonl").read_bytes()
    told = []
    again = learn_small(folder, listener=told.append)
    assert again == learned
    assert memories(folder) == before
    assert (folder / "accuracies.jsonl").read_bytes() == log
    assert not [event for event in told if not isinstance(event, Announcement)]


class Interrupted(KeyboardInterrupt):
    pass


def interrupt_at(condition):
    def listener(event):
        if condition(event):
            raise Interrupted

    return listener


@pytest.mark.parametrize(
    "condition",
    [
        lambda event: isinstance(event, Announcement) and event.text.startswith("memory 4 of"),
        lambda event: isinstance(event, Advanced) and event.done == 5,
    ],
    ids=["among the memories", "among the networks"],
)
def test_what_was_interrupted_goes_on_and_computes_nothing_twice(finished, tmp_path, condition):
    _, learned, _ = finished
    course = tmp_path / "course"
    with pytest.raises(Interrupted):
        learn_small(course, listener=interrupt_at(condition))
    there = memories(course)
    trained = lines(course) if (course / "accuracies.jsonl").exists() else []
    assert 0 < len(there) < 8 or 0 < len(trained) < 16
    again = learn_small(course)
    assert there.items() <= memories(course).items()
    assert lines(course)[: len(trained)] == trained
    assert {*Counter(map(str, lines(course))).values()} == {1}
    assert len(lines(course)) == 16
    assert again.points == learned.points


def test_more_methods_orders_and_networks_can_be_asked_for_later(finished, tmp_path):
    _, learned, _ = finished
    small = Course(steps=2, orders=1, methods=("dm",))
    learn_small(tmp_path / "course", small, repeats=1)
    before, first = memories(tmp_path / "course"), lines(tmp_path / "course")
    again = learn_small(tmp_path / "course")
    assert before.items() <= memories(tmp_path / "course").items()
    assert lines(tmp_path / "course")[: len(first)] == first
    assert again.points == learned.points


@pytest.mark.parametrize(
    ("course", "options", "difference"),
    [
        (Course(steps=3, methods=("dm",)), {}, "steps 2 there, 3 now"),
        (COURSE, {"iterations": 2}, "iterations 1 there, 2 now"),
        (COURSE, {"eval_epochs": 3, "ipc": 1}, "ipc 2 there, 1 now; eval_epochs 2 there, 3 now"),
        (COURSE, {"limit_per_class": 10}, "other images of digits there; limit_per_class 20 there"),
    ],
)
def test_other_settings_are_refused_with_the_difference(finished, course, options, difference):
    folder, _, _ = finished
    before = memories(folder)
    with pytest.raises(UserError, match=difference):
        learn_small(folder, course, **options)
    assert memories(folder) == before


def test_overwriting_begins_anew(tmp_path):
    small = Course(steps=2, orders=1, methods=("dm",))
    learn_small(tmp_path / "course", small, repeats=1)
    learned = learn_small(tmp_path / "course", small, repeats=1, eval_epochs=1, overwrite=True)
    assert len(lines(tmp_path / "course")) == 2
    assert learned.protocol["epochs"] == 1


def test_too_many_steps_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="steps must be at most 5 for 10 classes"):
        learn_small(tmp_path / "course", Course(steps=11, methods=("dm",)))
    assert not (tmp_path / "course").exists()


def test_classes_of_an_unknown_source_are_brought_to_one_normalisation(tmp_path):
    """Some classes of it have a mean of their own; what a network sees are the same pixels."""
    rng = np.random.default_rng(0)
    for place, name in enumerate("abcd"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(60 * place, 60 * place + 40, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    # Nearly real images: a step so small that no pixel leaves its value.
    how = OPTIONS | {"data": str(tmp_path / "data"), "lr_img": 1e-9, "limit_per_class": None}
    course = Course(steps=2, orders=1, methods=("dm",))
    learn(course, out=tmp_path / "course", **how)
    made = json.loads((tmp_path / "course" / "results.json").read_bytes())["made"]["data"]
    info = open_dataset(DataConfig(data=str(tmp_path / "data"))).info
    places = [tmp_path / "course" / "memories" / "order0" / f"step{n}-dm" for n in (1, 2)]
    sets = [read_set(place) for place in places]
    assert {one.card.mean for one in sets}.isdisjoint({tuple(made["mean"])})
    united = put_together(sets, cut(class_order(0, 4), 2), info)
    images, labels = united.union(2, "cpu").take(torch.arange(8))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (made["mean"], made["std"]))
    pixels = 255 * (images * std + mean)
    assert pixels.sub(pixels.round()).abs().max() < 1e-2
    for image, label in zip(pixels, labels.tolist(), strict=True):
        assert 60 * label <= image.min().round() <= image.max().round() < 60 * label + 40


def test_a_course_in_a_bucket_goes_on_and_can_be_replaced(store, tmp_path):
    course = Course(steps=2, orders=1, methods=("dm",))
    place = Location.at(f"{store.bucket}/course")
    local = learn_small(tmp_path / "local", course, repeats=1)
    stop = interrupt_at(lambda event: isinstance(event, Advanced))
    with pytest.raises(Interrupted):
        learn_small(place.address, course, listener=stop, repeats=1)
    learned = learn_small(place.address, course, repeats=1)
    assert learned.points == local.points
    assert learned.folder == str(place)
    names = {entry.path for entry in place.files()}
    assert {"continual.png", "accuracies.jsonl", "results.csv"} <= names
    assert "memories/order0/step2-dm/condensed.parquet" in names
    log = (place / "accuracies.jsonl").read_bytes()
    assert len(log.splitlines()) == 2
    with pytest.raises(UserError, match="ipc 2 there, 1 now"):
        learn_small(place.address, course, repeats=1, ipc=1)
    with pytest.raises(UserError, match="found other files at s3://"):
        learn_small((place / "memories").address, course, repeats=1)
    learn_small(place.address, course, repeats=1, ipc=1, overwrite=True)
    assert (place / "accuracies.jsonl").read_bytes() != log
