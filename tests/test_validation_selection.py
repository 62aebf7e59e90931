"""An iterate is selected on validation images, and tested on others beside the last one."""

import contextlib
import itertools
import json

import numpy as np
import pytest

import idm_ray
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.evaluation_jobs import best_iterate, candidates
from idm_ray.execution import Started
from idm_ray.progress import Evaluated, Progress, Record
from idm_ray.real_images import RealImages
from idm_ray.results.condensed import read_arrays, read_card
from idm_ray.results.run_folder import RunFolder
from idm_ray.run import resume
from idm_ray.tuning.request import options_of_runs
from tests.interrupting import LOCAL, SETTINGS, condensing, reports, resuming
from tests.making_runs import TINY, command, metrics, pixels, run
from tests.results.events import scalars

# Small differences between processors must not decide which iterate is the best.
OPTIONS = {
    "iterations": 5,
    "eval_interval": 1,
    "repeats": 2,
    "val_fraction": 0.2,
    "precision": "float32",
    "compile": "off",
    "checkpoint_interval": 1,
}
SELECTING = OPTIONS | {"select": "validation"}
RESULTS = ("evaluation", "selected", "start", "random", "whole")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that selects."""
    return run(tmp_path_factory.mktemp("selecting") / "run", **SELECTING).folder


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def selected_pixels(folder):
    return read_arrays(folder / "selected.parquet")[0]


def assert_same(folder, reference):
    for name in RESULTS:
        assert summary_of(folder)[name] == summary_of(reference)[name]
    assert np.array_equal(pixels(folder), pixels(reference))
    assert (folder / "selected.parquet").read_bytes() == (
        reference / "selected.parquet"
    ).read_bytes()
    assert accuracies_of(folder) == accuracies_of(reference)


def accuracies_of(folder):
    """Accuracies that a run has logged, each once."""
    lines = [line for line in metrics(folder) if "accuracy" in line]
    names = ("subject", "iteration", "repeat", "split")
    found = {tuple(line.get(name) for name in names): line["accuracy"] for line in lines}
    assert len(found) == len(lines)
    return found


# --- What is selected ---


def test_the_selected_iterate_is_the_best_of_a_run_that_is_tested_on_validation_images(
    folder, tmp_path
):
    on_validation = run(tmp_path, **OPTIONS, eval_split="validation", baselines="off").folder
    by_iterate = {}
    for (_, iteration, _, _), accuracy in accuracies_of(on_validation).items():
        by_iterate.setdefault(iteration, []).append(accuracy)
    assert sorted(by_iterate) == [1, 2, 3, 4, 5]
    most = max(sum(accuracies) for accuracies in by_iterate.values())
    best = min(at for at, accuracies in by_iterate.items() if sum(accuracies) == most)
    assert best < 5, "the tests here need a copy that is better than the last iterate"
    selected = summary_of(folder)["selected"]
    assert selected["iteration"] == best
    assert selected["validation"]["accuracies"] == by_iterate[best]
    assert (selected["selected_on"], selected["among"]) == ("validation", [1, 2, 3, 4, 5])


def test_it_is_what_a_run_that_ends_there_has_and_is_worth_on_test_images(folder, tmp_path):
    selected = summary_of(folder)["selected"]
    shorter = OPTIONS | {"iterations": selected["iteration"], "eval_interval": 0}
    ended = run(tmp_path, **shorter, baselines="off")
    assert np.array_equal(selected_pixels(folder), pixels(tmp_path))
    protocol = ("network", "protocol", "epochs", "split", "repeats", "mean", "std", "accuracies")
    for name in protocol:
        assert selected[name] == ended.summary["evaluation"][name]
    assert selected["split"] == "test"


def test_the_last_iterate_and_its_baselines_are_those_of_a_run_that_selects_none(folder, tmp_path):
    plain = run(tmp_path, **OPTIONS | {"eval_interval": 0})
    assert np.array_equal(pixels(folder), pixels(tmp_path))
    assert not np.array_equal(pixels(folder), selected_pixels(folder))
    found = summary_of(folder)
    for name in ("evaluation", "start", "random"):
        assert found[name] == plain.summary[name]
    assert found["evaluation"]["selected_on"] == "last"
    assert plain.summary["selected"] is None
    assert not (tmp_path / "selected.parquet").exists()


def test_nothing_but_what_is_reported_is_tested_on_test_images(folder, monkeypatch, tmp_path):
    best = summary_of(folder)["selected"]["iteration"]
    on_validation, on_test = set(), set()
    for subject, iteration, _, split in accuracies_of(folder):
        (on_validation if split == "validation" else on_test).add((subject, iteration))
    assert on_validation == {("condensed", iteration) for iteration in range(1, 6)}
    assert on_test == {("condensed", best), ("condensed", 5), ("start", 5), ("random", 5)}

    # And so it is where images are taken: no test image until an iterate is selected.
    taken, batches = [], RealImages.test_batches

    def noted(self, *, split):
        taken.append(split)
        assert split == "validation" or (tmp_path / "selected.parquet").exists()
        return batches(self, split=split)

    monkeypatch.setattr(RealImages, "test_batches", noted)
    run(tmp_path, **SELECTING)
    assert taken == ["validation"] * 10 + ["eval_split"] * 8


def test_of_iterates_that_are_the_same_the_earliest_is_selected(tmp_path):
    # So small a step is rounded away.
    found = run(tmp_path, **SELECTING, lr_img=1e-12, momentum_img=0.0, baselines="off")
    assert found.summary["selected"]["iteration"] == 1
    assert np.array_equal(selected_pixels(tmp_path), pixels(tmp_path))


def test_a_last_iterate_that_is_the_best_is_tested_once_and_kept_as_both(tmp_path):
    options = {"iterations": 20, "eval_interval": 0, "eval_at": "1", "eval_epochs": 20}
    found = run(tmp_path, **SELECTING | options, baselines="off").summary
    assert found["selected"]["iteration"] == 20
    assert found["selected"]["accuracies"] == found["evaluation"]["accuracies"]
    assert len([key for key in accuracies_of(tmp_path) if key[3] is None]) == 2
    assert np.array_equal(selected_pixels(tmp_path), pixels(tmp_path))


# --- Where it stands ---


def test_the_selected_set_has_a_card_of_its_own_and_can_be_used(folder):
    selected = summary_of(folder)["selected"]
    own, last = (read_card(folder / f"{name}.parquet") for name in ("selected", "condensed"))
    assert (own.iterations, last.iterations) == (selected["iteration"], 5)
    assert (own.evaluation, last.evaluation) == (selected, summary_of(folder)["evaluation"])
    loaded = idm_ray.load(folder / "selected.parquet")
    assert np.array_equal(loaded.images.numpy(), selected_pixels(folder))
    machine = {name: TINY[name] for name in ("limit_per_class", "local", "device", "threads")}
    found = idm_ray.evaluate(
        folder / "selected.parquet",
        **{"data": "digits", "val_fraction": 0.2, "compile": "off", "precision": "float32"},
        **machine,
    )
    assert found.networks["convnet-2"]["accuracies"] == selected["accuracies"]


def test_people_are_told_of_both(folder, tmp_path):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SELECTING.items()]
    words += [f"--{n.replace('_', '-')}={TINY[n]}" for n in TINY.keys() - {"local", *SELECTING}]
    outcome = command("condense", "--local", "--out", tmp_path / "run", *words)
    assert outcome.status == 0
    assert "IDM, last iterate" in outcome.out
    assert "IDM, selected iterate" in outcome.out
    best = summary_of(folder)["selected"]["iteration"]
    assert f"Iteration {best} is the best of 5 on validation images" in outcome.out
    assert "iteration 1: condensed" in outcome.err
    assert_same(tmp_path / "run", folder)


def test_tensorboard_shows_what_an_iterate_is_selected_by_apart(folder):
    found = scalars(folder / "tb")
    summary = summary_of(folder)
    best = summary["selected"]["iteration"]
    assert [step for step, _ in found["accuracy/condensed_validation"]] == [1, 2, 3, 4, 5]
    assert dict(found["accuracy/condensed_validation"])[best] == pytest.approx(
        summary["selected"]["validation"]["mean"]
    )
    assert dict(found["accuracy/condensed"]) == {
        best: pytest.approx(summary["selected"]["mean"]),
        5: pytest.approx(summary["evaluation"]["mean"]),
    }


def test_the_selected_set_goes_with_its_run(folder, tmp_path):
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.yaml", "condensed.parquet", "selected.parquet"):
        (copy / name).write_bytes((folder / name).read_bytes())
    with RunFolder.create(copy, overwrite=True):
        assert not (copy / "selected.parquet").exists()


# --- What is refused ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"eval_interval": 5},
            "select validation needs iterates to select from: expected eval_interval or eval_at "
            "below the run's 5 iterations, got none; set eval_interval, such as 1, or select last",
        ),
        (
            {"method": "random"},
            "method random has no iterates: expected select last, got validation; leave it out",
        ),
    ],
)
def test_a_run_without_copies_to_select_from_is_refused(tmp_path, options, said):
    with pytest.raises(UserError) as raised:
        run(tmp_path / "run", **SELECTING | options)
    assert str(raised.value) == said
    assert not (tmp_path / "run").exists()


def test_a_search_selects_settings_not_iterates():
    with pytest.raises(UserError, match=r"^expected no select for a search, which has its own"):
        options_of_runs({"select": "validation"}, None)


def test_a_run_goes_on_with_the_selection_that_it_was_begun_with(folder):
    with pytest.raises(UserError, match="select validation there, last now"):
        resume(folder, select="last")


# --- Interruptions ---


def interrupted(folder, when):
    """A run that Ctrl-C ends at the first event for which `when` is true."""

    def listener(event):
        if when(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, listener=listener, **SELECTING)


def nth(kind, number, **fields):
    """The nth event of a kind, of jobs with these fields."""
    count = itertools.count(1)

    def is_it(event):
        if not isinstance(event, kind):
            return False
        job = getattr(event, "job", None)
        return all(getattr(job, k) == v for k, v in fields.items()) and next(count) == number

    return is_it


def test_a_run_that_is_interrupted_at_every_other_step_selects_the_same(folder, tmp_path):
    seen = set()

    def stop(event):
        key = event.job if isinstance(event, Evaluated) else getattr(event, "iteration", None)
        if isinstance(event, Evaluated | Progress) and key not in seen:
            seen.add(key)
            if len(seen) % 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, listener=stop, **SELECTING)
    while not (tmp_path / "summary.json").exists():
        with contextlib.suppress(KeyboardInterrupt):
            resume(tmp_path, listener=stop)
    assert len(seen) == 5 + 10 + 8
    assert_same(tmp_path, folder)


@pytest.mark.parametrize(
    "moment",
    [
        nth(Progress, 4),
        nth(Evaluated, 1, iteration=4),  # one of two by which it is judged
        nth(Evaluated, 2, iteration=4),
        nth(Evaluated, 1, iteration=5, split="validation"),
        nth(Started, 3),  # selected, and not tested yet
        nth(Evaluated, 1, split="eval_split"),
    ],
    ids=("step", "half judged", "judged", "last", "selected", "tested"),
)
def test_a_checkpoint_has_the_best_copy_and_those_that_are_not_judged_yet(folder, tmp_path, moment):
    interrupted(tmp_path, moment)
    with RunFolder.open(tmp_path) as opened:
        stored = CheckpointFolder(opened.checkpoints)
        iterates = candidates(RunConfig.from_flat(opened.read_config()["options"]))
    commit = stored.commits()[0]
    evaluated = Record.of(commit).evaluated
    best = best_iterate(iterates, evaluated)
    for group in commit.groups:
        made = range(1, min(group.iteration, 4) + 1)
        needed = {at for at in made if at == best or any(j not in evaluated for j in iterates[at])}
        copies = stored.read_group(group).copies.keys()
        assert needed <= copies
        assert len(copies) <= 2
    # The file is made of them, and needs not be there.
    (tmp_path / "selected.parquet").unlink(missing_ok=True)
    resume(tmp_path)
    assert_same(tmp_path, folder)


def test_methods_whose_classes_meet_between_rounds_select_the_same_after_an_interruption(tmp_path):
    options = SELECTING | {"method": "dsa", "ipc": 2, "outer_rounds": 2, "inner_epochs": 1}
    whole = run(tmp_path / "whole", **options).folder
    judged_last = nth(Evaluated, 2, iteration=2)

    def stop(event):
        if judged_last(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", listener=stop, **options)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


KILLED = SELECTING | {
    "iterations": 20,
    "eval_interval": 5,
    "eval_epochs": 5,
    "checkpoint_interval": 7,
}


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """A longer run of processes of their own, to its end."""
    folder = tmp_path_factory.mktemp("unharmed") / "run"
    run(folder, **SETTINGS | LOCAL | KILLED)
    return folder


def judged(folder):
    """Iterates that a run has logged a network of."""
    return {line["iteration"] for line in reports(folder) if line.get("split") == "validation"}


@pytest.mark.parametrize("iteration", [10, 20])
def test_a_run_that_is_killed_selects_the_same(unharmed, tmp_path, iteration):
    folder = tmp_path / "run"
    with condensing(folder, **KILLED | LOCAL) as started:
        assert started.until(lambda: iteration in judged(folder))
        started.kill()
    assert not (folder / "summary.json").exists()
    with resuming(folder) as again:
        assert again.end().status == 0
    assert_same(folder, unharmed)
