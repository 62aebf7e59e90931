import dataclasses
import json

import pytest
import torch

from idm_ray.bench import flops
from idm_ray.bench.compare import compare, make_plan, summarise, why_void
from idm_ray.bench.parts import OTHER
from idm_ray.bench.sides import OurSide, PublishedSide, Timing
from idm_ray.bench.turns import Turn, Turns
from idm_ray.progress import Announcement
from tests.bench.making import TINY, plan_of

PARTS = {"real", "synthetic", "augmentation", "data", "training", "optimiser", OTHER}


def test_without_other_iterations_a_turn_is_its_training_iteration():
    turn = Turn(interval=1, training=Timing(2.0, 3.0, 9.0), plain=None)
    assert (turn.seconds, turn.cpu_s) == (5, 9)


def test_iterations_with_and_without_training_weigh_as_often_as_they_occur():
    turn = Turn(interval=30, training=Timing(2.0, 31.0, 60.0), plain=Timing(2.5, 0.5, 4.0))
    assert turn.seconds == pytest.approx((33 + 29 * 3) / 30)
    assert turn.cpu_s == pytest.approx((60 + 29 * 4) / 30)


@pytest.mark.parametrize("published", [91.0, 100.0, 109.0])
def test_a_baseline_that_trains_as_fast_as_torch_does_is_valid(published):
    assert why_void([(published, 100.0)]) is None


@pytest.mark.parametrize("published", [89.0, 112.0])
def test_a_baseline_that_trains_at_another_speed_makes_the_ratio_void(published):
    assert why_void([(published, 100.0)]) == (
        f"the published side trains {published} images/s, a bare loop 100.0: they differ by more "
        "than 10 %"
    )


def test_rounds_are_judged_each_by_its_own_bare_loop():
    assert why_void([(50.0, 51.0), (100.0, 102.0), (100.0, 150.0)]) is None


class Recorder:
    """Stands in for a process: notes what it is asked, in a list that both share."""

    def __init__(self, name, log, bare=()):
        self.name, self.log, self.bare = name, log, list(bare)

    def call(self, method, *args):
        self.log.append((self.name, method, *args))
        answers = {
            "iterate": Timing(1.0, 2.0, 3.0),
            "profile": {"real": 3.0} if args and args[0] % 2 == 0 else {"real": 1.0},
            "bare_training": self.bare.pop(0) if method == "bare_training" else 0,
            "matmul_flops_per_s": {"float32": 1e9},
        }
        return answers[method]


def test_the_two_take_turns_and_the_bare_loop_runs_around_the_published_side():
    log = []
    plan = plan_of(TINY, train_interval=2, train_steps=10)
    turns = Turns(plan, Recorder("ours", log), Recorder("published", log, [60.0, 120.0]))
    assert turns.warm_up() == 3.0
    found = turns.round()
    assert found.bare_images_per_s == pytest.approx(80)  # images over time
    assert turns.parts()[0] == {"real": 2.0, "waiting": 0.0, "ray": 0.0}
    assert log == [
        ("ours", "iterate", 0),
        ("published", "iterate", 0),
        ("ours", "matmul_flops_per_s"),
        ("ours", "iterate", 2),
        ("ours", "iterate", 3),
        ("published", "bare_training", 5),
        ("published", "iterate", 2),
        ("published", "iterate", 3),
        ("published", "bare_training", 5),
        ("ours", "profile", 4),
        ("ours", "profile", 5),
        ("published", "profile", 4),
        ("published", "profile", 5),
    ]


MACHINE = {"device": "cpu", "precision": "float32", "compile": "off", "threads": 1}
SETTING = dataclasses.replace(TINY, options={**TINY.options, "train_interval": 3})


class Here:
    """An implementation in this process, called as if it were in another."""

    def __init__(self, side):
        self.side = side

    def call(self, method, *args):
        return getattr(self.side, method)(*args)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A tiny comparison."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(flops._MATRIX_SIDE, "cpu", 128)
        plan = make_plan(SETTING, MACHINE, tmp_path_factory.mktemp("bench"))
        turns = Turns(plan, Here(OurSide(plan)), Here(PublishedSide(plan)))
        warm_up_s = turns.warm_up()
        yield summarise("tiny", plan, turns, [turns.round(), turns.round()], warm_up_s)
    torch.set_num_threads(threads)


def test_a_comparison_measures_both_sides(found):
    for side in (found.ours, found.published):
        assert len(side.rounds_s) == 2
        assert side.seconds == pytest.approx(sum(side.rounds_s) / 2)
        assert 0 < side.cpu_s < 2 * max(side.rounds_s)
        assert set(side.parts) == {*PARTS, "waiting", "ray"}
        assert all(side.parts[name] > 0 for name in PARTS)
        assert side.images_per_s * side.seconds == pytest.approx(12 + 24 + 32 / 3)
        assert side.tflop_per_s * side.seconds == pytest.approx(found.work_tflop)
        assert side.peak_share == pytest.approx(
            side.tflop_per_s / found.matmul_tflop_per_s["float32"]
        )
        assert 5e7 < side.peak_memory_bytes < 5e9
        assert (side.precision, side.compiled) == ("float32", False)
    assert found.warm_up_s > 0


def test_the_ratio_is_that_of_the_medians_or_void(found):
    assert found.ratio is None or found.ratio == pytest.approx(
        found.published.seconds / found.ours.seconds
    )
    assert (found.ratio is None) == (found.void is not None)
    rounds = zip(found.ours.rounds_s, found.published.rounds_s, strict=True)
    assert found.ratios == pytest.approx([theirs / ours for ours, theirs in rounds])


def test_the_context_says_where_the_numbers_come_from(found):
    context = found.context
    assert {"machine", "cores", "threads", "rounds", "versions", "commit", "command"} <= set(
        context
    )
    assert (context["rounds"], context["threads"]) == (2, 1)
    assert context["options"]["precision"] == "float32"
    json.dumps(dataclasses.asdict(found), allow_nan=False)


@pytest.mark.slow
def test_each_side_runs_in_its_own_process_and_progress_is_told_in_lines():
    told = []
    found = compare(SETTING, MACHINE, rounds=2, listener=told.append)
    assert [event.text.split(" ours ")[0] for event in told][-2:] == [
        "tiny: round 1/2:",
        "tiny: round 2/2:",
    ]
    assert all(isinstance(event, Announcement) for event in told)
    assert found.ours.peak_memory_bytes != found.published.peak_memory_bytes
    assert found.context["rounds"] == 2
