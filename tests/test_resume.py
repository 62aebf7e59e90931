"""Runs in this process that end early and go on: the numbers are those of a run that did not."""

import itertools

import numpy as np
import pytest
import yaml

from idm_ray.algorithm.class_group import ClassGroup
from idm_ray.algorithm.model_server import ModelServer
from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import UserError
from idm_ray.execution import Finished, Started
from idm_ray.progress import Announcement, Committed, Evaluated, Progress
from idm_ray.results.run_folder import RunFolder
from idm_ray.run import condense, resume
from tests.making_runs import TINY, metrics, pixels, progress_of, run

OPTIONS = {"iterations": 5, "repeats": 2, "eval_interval": 2, "checkpoint_interval": "300s"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed") / "run", **OPTIONS)


def assert_same(folder, reference):
    assert np.array_equal(pixels(folder), pixels(reference))
    assert accuracies(folder) == accuracies(reference)
    iterations = [line["iteration"] for line in progress_of(folder)]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == progress_of(reference)[-1]["iteration"]
    by_iteration = {line["iteration"]: line for line in progress_of(reference)}
    for line in progress_of(folder):
        assert line["matching_loss"] == by_iteration[line["iteration"]]["matching_loss"]
    assert not (folder / "checkpoints").exists()


def accuracies(folder):
    lines = [line for line in metrics(folder) if "accuracy" in line]
    found = {(ln["subject"], ln["repeat"], ln["iteration"]): ln["accuracy"] for ln in lines}
    assert len(found) == len(lines)
    return found


def interrupted(folder, when, **options):
    """A run that Ctrl-C ends at the first event for which `when` is true; what it said."""
    said = []

    def listener(event):
        said.append(event)
        if when(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, listener=listener, **{**OPTIONS, **options})
    return said


def commits(folder):
    return RunFolder.open(folder).checkpoints


def last_commit(folder):
    """The newest commit of a run that was interrupted."""
    commit = CheckpointFolder(commits(folder)).commits()[0]
    assert isinstance(commit, Commit)
    return commit


def at_iteration(iteration):
    return lambda event: isinstance(event, Progress) and event.iteration == iteration


@pytest.mark.parametrize("iteration", [1, 2, 3, 4, 5])
def test_a_run_goes_on_where_it_was_interrupted(tmp_path, undisturbed, iteration):
    folder = tmp_path / "run"
    said = interrupted(folder, at_iteration(iteration))
    assert said[-1].text == (
        f"the run goes on from iteration {iteration} with: idm-ray resume {folder}"
    )
    events = []
    finished = resume(folder, listener=events.append)
    assert Started("condense", 5, iteration) in events
    assert_same(folder, undisturbed.folder)
    for name in ("evaluation", "start", "random"):
        assert finished.summary[name] == undisturbed.summary[name]


def test_a_run_can_be_interrupted_as_often_as_one_likes(tmp_path, undisturbed):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(1))
    for iteration in (2, 3, 4, 5):

        def stop(event, iteration=iteration):
            if isinstance(event, Progress) and event.iteration == iteration:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            resume(folder, listener=stop)
        assert last_commit(folder).iteration == iteration
    resume(folder)
    assert_same(folder, undisturbed.folder)


def interrupt_at_step(nth, folder, monkeypatch, **options):
    """Begin a run that is interrupted when the n-th step of any group begins."""
    calls, step = itertools.count(1), ClassGroup._step

    def interrupt(self, *arguments):
        if next(calls) == nth:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ClassGroup, "_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder, **options)


@pytest.mark.parametrize("nth", [1, 2, 3, 7])
def test_each_group_goes_on_from_its_own_newest_finished_iteration(
    tmp_path, undisturbed, monkeypatch, nth
):
    folder = tmp_path / "run"
    interrupt_at_step(nth, folder, monkeypatch, **OPTIONS)
    # Two groups, one after the other.
    assert [group.iteration for group in last_commit(folder).groups] == [nth // 2, (nth - 1) // 2]
    resume(folder)
    assert_same(folder, undisturbed.folder)


@pytest.mark.parametrize("nth", [2, 4, 9, 12])
def test_where_classes_meet_all_groups_go_on_from_the_same_finished_iteration(
    tmp_path, monkeypatch, nth
):
    options = {"method": "dsa", "outer_rounds": 2, "inner_epochs": 2, "eval_interval": 2}
    options |= {"iterations": 4, "repeats": 1}
    whole = run(tmp_path / "whole", **OPTIONS | options)
    folder = tmp_path / "run"
    interrupt_at_step(nth, folder, monkeypatch, **OPTIONS | options)
    # Two groups, two rounds: the fourth call leaves the first group an iteration ahead.
    done = (nth - 1) // 4
    assert [group.iteration for group in last_commit(folder).groups] == [done, done]
    resume(folder)
    assert_same(folder, whole.folder)


def test_the_queue_goes_on_from_before_a_training_that_was_interrupted(
    tmp_path, undisturbed, monkeypatch
):
    folder, calls = tmp_path / "run", itertools.count(1)
    train = ModelServer._train_model

    def interrupt(self, model):
        if next(calls) == 6:  # the second network of the third iteration
            raise KeyboardInterrupt
        return train(self, model)

    monkeypatch.setattr(ModelServer, "_train_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder, **OPTIONS)
    monkeypatch.undo()
    commit = last_commit(folder)
    assert (commit.iteration, commit.queue.iteration) == (3, 2)
    resume(folder)
    assert_same(folder, undisturbed.folder)


def test_results_of_evaluation_are_not_worked_out_again(tmp_path, undisturbed):
    folder, trained = tmp_path / "run", itertools.count(1)

    def third(event):
        return isinstance(event, Evaluated) and event.job.iteration == 5 and next(trained) == 3

    interrupted(folder, third)
    assert len(last_commit(folder).evaluated) == 4 + 3
    told = []
    resume(folder, listener=told.append)
    assert_same(folder, undisturbed.folder)
    assert not [event for event in told if isinstance(event, Progress)]


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dm"},
        {"method": "dc"},
        {"method": "dsa", "ipc": 2, "outer_rounds": 3, "inner_epochs": 2},
        {"accuracy_window": 2, "train_interval": 2},
        {"num_matched_models": 2, "momentum_img": 0.9, "image_step": "per_class"},
        {"pretrained": 2, "pretrain_steps": 5, "pretrained_classes": 3},
        {"val_fraction": 0.2, "eval_split": "validation"},
    ],
    ids=str,
)
def test_every_kind_of_run_goes_on_with_the_same_numbers(tmp_path, options, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = run(tmp_path / "whole", **{**OPTIONS, **options})
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(3), **options)
    # Kept networks are not needed: the checkpoint has them.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    told = []
    resume(folder, listener=told.append)
    assert_same(folder, whole.folder)
    assert not [e for e in told if isinstance(e, Announcement) and "pretrained network" in e.text]


@pytest.mark.parametrize("interval", ["2", 1, "1s"])
def test_checkpoints_are_written_while_the_run_goes_on(tmp_path, undisturbed, interval):
    told = []
    finished = run(
        tmp_path / "run", listener=told.append, **{**OPTIONS, "checkpoint_interval": interval}
    )
    assert_same(finished.folder, undisturbed.folder)
    numbers = [event.number for event in told if isinstance(event, Committed)]
    assert numbers == list(range(len(numbers)))
    lines = [line for line in metrics(finished.folder) if "checkpoint" in line]
    assert [line["checkpoint"] for line in lines] == numbers
    assert all(0 <= ln["written_bytes"] <= ln["checkpoint_bytes"] for ln in lines)


def test_a_run_without_any_checkpoint_starts_again(tmp_path, undisturbed, monkeypatch):
    folder = tmp_path / "run"

    def interrupt(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("idm_ray.local.ClassWorker.__init__", interrupt)
    said = []
    with pytest.raises(KeyboardInterrupt):
        run(folder, listener=said.append, **OPTIONS)
    monkeypatch.undo()
    assert said[-1].text == f"the run goes on from its beginning with: idm-ray resume {folder}"
    resume(folder)
    assert_same(folder, undisturbed.folder)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_an_earlier_checkpoint_stands_in_for_a_damaged_one_which_is_told(tmp_path, undisturbed):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(4), checkpoint_interval=1)
    newest, before = CheckpointFolder(commits(folder)).commits()
    flip(folder / "checkpoints" / newest.groups[1].file.name, 200)
    told = []
    resume(folder, listener=told.append)
    damaged, used = [e.text for e in told if isinstance(e, Announcement) and e.warning]
    assert damaged.startswith("a checkpoint cannot be used: ")
    assert newest.groups[1].file.name in damaged
    assert used == f"an earlier one is used, of iteration {before.iteration}"
    assert Started("condense", 5, before.iteration) in told
    assert_same(folder, undisturbed.folder)


def test_a_run_whose_checkpoints_are_all_damaged_starts_again_and_says_so(tmp_path, undisturbed):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(4), checkpoint_interval=1)
    for commit in CheckpointFolder(commits(folder)).commits():
        flip(folder / "checkpoints" / commit.groups[0].file.name, -1)
    told = []
    resume(folder, listener=told.append)
    warnings = [e.text for e in told if isinstance(e, Announcement) and e.warning]
    assert len(warnings) == 3
    assert warnings[-1] == "no checkpoint can be used: the run starts again from iteration 0"
    assert Started("condense", 5, 0) in told
    assert_same(folder, undisturbed.folder)


def test_a_complete_run_is_told_as_it_is(undisturbed):
    told = []
    assert resume(undisturbed.folder, listener=told.append) == undisturbed
    assert told == [
        Announcement(f"the run in {undisturbed.folder} is complete"),
        Finished(undisturbed.folder, undisturbed.summary),
    ]


def test_resume_auto_starts_goes_on_and_tells_of_a_complete_run(tmp_path, undisturbed):
    options = {**TINY, **OPTIONS, "out": tmp_path / "run", "resume": "auto"}

    def stop(event):
        if isinstance(event, Progress) and event.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        condense(listener=stop, **options)
    told = []
    finished = condense(listener=told.append, **options)
    assert Started("condense", 5, 2) in told
    assert_same(finished.folder, undisturbed.folder)
    assert condense(**options) == finished


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lambda_reg": 0.1}, "lambda_reg 0.5 there, 0.1 now"),
        ({"iterations": 6, "seed": 1}, "iterations 5 there, 6 now; seed 0 there, 1 now"),
        ({"threads": 2}, "threads 1 there, 2 now"),
    ],
    ids=str,
)
def test_going_on_with_other_numbers_is_refused_with_the_difference(tmp_path, changes, told):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(2))
    with pytest.raises(UserError) as auto:
        condense(out=folder, resume="auto", **{**TINY, **OPTIONS, **changes})
    with pytest.raises(UserError) as plain:
        resume(folder, **changes)
    for error in (auto, plain):
        for difference in told.split("; "):
            assert difference in str(error.value)


def test_going_on_with_other_images_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(2))
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("fingerprint: ", "fingerprint: x"))
    with pytest.raises(UserError, match=r"^expected the images that the run began with "):
        resume(folder)


def test_what_changes_no_numbers_may_differ(tmp_path, undisturbed):
    folder = tmp_path / "run"
    interrupted(folder, at_iteration(2))
    resume(folder, checkpoint_interval="1", max_failures=3, cache="none")
    assert_same(folder, undisturbed.folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numerics", None),
        ("processors", None),
        ("numerics", {"threads": "x"}),
        ("numerics", {"speed": 1}),
    ],
)
def test_a_config_that_was_changed_by_hand_is_refused_in_a_line(tmp_path, name, value):
    folder = tmp_path / "run"
    interrupted(folder, lambda event: isinstance(event, Progress))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if value is None:
        del config[name]
    else:
        config[name] |= value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="expected the numerics and processors of a run in"):
        resume(folder)


def test_what_the_run_has_decided_is_not_decided_again(undisturbed, tmp_path):
    folder = tmp_path / "run"
    interrupted(folder, lambda event: isinstance(event, Progress))
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    resume(folder, network=options["network"], seed=options["seed"])
    assert_same(folder, undisturbed.folder)
    assert yaml.safe_load((folder / "config.yaml").read_text())["options"] == options


def test_without_evaluation_no_checkpoint_is_left_over(tmp_path):
    folder = tmp_path / "run"
    run(folder, **OPTIONS | {"repeats": 0, "eval_interval": 0, "checkpoint_interval": 1})
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("kind", ["model", "pretrained"])
def test_networks_that_all_commits_share_are_trained_again(tmp_path, kind):
    options = OPTIONS | {"pretrained": 1, "pretrain_steps": 2, "checkpoint_interval": 1}
    whole = run(tmp_path / "whole", **options)
    folder = tmp_path / "run"
    interrupted(
        folder, lambda event: isinstance(event, Progress) and event.iteration == 4, **options
    )
    iteration = last_commit(folder).iteration
    for file in (folder / "checkpoints").glob(f"{kind}-*"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    told = []
    resume(folder, listener=told.append)
    warnings = [event.text for event in told if isinstance(event, Announcement) and event.warning]
    assert [text.split(":")[0] for text in warnings[:-1]] == ["a checkpoint cannot be used"] * 2
    assert warnings[-1] == (
        f"the images of iteration {iteration} are whole: they are used, and the networks are "
        "trained again from the first iteration"
    )
    assert Started("condense", 5, iteration) in told
    assert_same(folder, whole.folder)
