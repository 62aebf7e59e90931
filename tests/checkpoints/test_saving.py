from dataclasses import replace

import pytest

from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checkpoints.saving import RESULTS_EVERY_S, RETRY_S, Saving, Tally, Written
from idm_ray.checks import Interval
from idm_ray.errors import CheckpointError, StorageError
from idm_ray.storage import Location
from tests.checkpoints.making import make_run

EVERY_20_S = Interval(seconds=20.0)


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(Location.at(tmp_path / "checkpoints"))


def make_saving(folder, interval=EVERY_20_S):
    return Saving(folder, interval, num_groups=2)


def write(saving, run, *, groups=(0, 1)):
    """The files of a commit that are new."""
    states = {n: run.groups[n] for n in groups if saving.is_new(n, run.groups[n].iteration)}
    new = {key: version for key, version in run.versions.items() if key not in saving.known}
    return Written(
        groups=saving.folder.write_groups(states),
        queue=run.queue,
        models=saving.folder.write_models(new),
        pretrained=() if saving.last else saving.folder.write_pretrained(run.pretrained),
    )


def commit(saving, run, **how):
    made = saving.next_commit(write(saving, run, **how), Tally())
    saving.folder.publish(made)
    saving.committed(made)
    return made


def test_the_interval_begins_with_the_first_question(folder):
    saving = make_saving(folder)
    assert [saving.due(t, 0) for t in (100.0, 119.0, 120.0)] == [False, False, True]
    saving.begun(120.0, 5)
    assert [saving.due(t, 9) for t in (121.0, 139.9, 140.0)] == [False, False, True]


def test_an_interval_of_iterations_does_not_look_at_the_clock(folder):
    saving = make_saving(folder, Interval(iterations=4))
    assert [saving.due(1000.0 * i, i) for i in (1, 2, 3, 4)] == [False, False, False, True]
    saving.begun(0.0, 4)
    assert [saving.due(0.0, i) for i in (7, 8)] == [False, True]


def test_an_interval_of_iterations_begins_where_the_run_goes_on(folder):
    commit(make_saving(folder), make_run(1))  # of iteration 10
    saving = make_saving(folder, Interval(iterations=4))
    saving.begun(0.0, 40)
    saving.go_back(lambda found: found)
    assert [saving.due(0.0, i) for i in (13, 14)] == [False, True]


def test_results_alone_are_due_sooner(folder):
    saving = make_saving(folder, Interval(seconds=3600.0))
    assert saving.results_due(7.0)
    saving.begun(7.0, 0)
    assert not saving.results_due(7.0 + RESULTS_EVERY_S / 2)
    assert saving.results_due(7.0 + RESULTS_EVERY_S)


@pytest.mark.parametrize("interval", [Interval(seconds=3600.0), Interval(iterations=1000)])
def test_a_failure_is_told_once_and_tried_again_soon(folder, interval):
    saving = make_saving(folder, interval)
    saving.due(0.0, 0)
    told = saving.failed(StorageError("no room"))
    assert told == (
        "a checkpoint could not be written (no room); there is none yet; it is tried again every "
        f"{RETRY_S:g} s"
    )
    assert saving.failed(StorageError("no room")) is None
    assert not saving.due(RETRY_S - 1, 1)
    assert saving.due(RETRY_S, 1)
    made = saving.next_commit(write(saving, make_run(3)), Tally())
    assert saving.committed(made) == (
        "checkpoints can be written again; the newest is at iteration 30"
    )
    assert not saving.due(RETRY_S, 1)
    assert saving.committed(made) is None
    assert "the last one, at iteration 30, stands" in saving.failed(StorageError("again"))


def test_what_has_not_changed_keeps_its_files(folder):
    saving, run = make_saving(folder), make_run()
    first = commit(saving, run)
    ahead = replace(run.groups[1], iteration=15)
    later = replace(run, groups={0: run.groups[0], 1: ahead})
    written = write(saving, later)
    assert (list(written.groups), written.models, written.pretrained) == ([1], {}, ())
    assert written.size == written.groups[1].file.size
    second = saving.next_commit(written, Tally(seconds=2.5, totals={"a": 1.0}))
    assert second.number == first.number + 1
    assert second.groups[0] == first.groups[0]
    assert second.groups[1] != first.groups[1]
    assert (second.models, second.pretrained) == (first.models, first.pretrained)
    assert (second.seconds, second.totals) == (2.5, {"a": 1.0})


def test_a_group_that_could_not_be_asked_is_as_in_the_last_commit_and_so_is_the_queue(folder):
    saving, run = make_saving(folder), make_run(1)
    first = commit(saving, run)
    second = commit(saving, make_run(2), groups=(1,))
    assert second.groups[0] == first.groups[0]
    assert second.groups[1].iteration == 21
    assert second.queue == first.queue
    assert second.models == first.models


def test_without_all_networks_the_queue_is_as_in_the_last_commit(folder):
    saving = make_saving(folder)
    first = commit(saving, make_run(1))
    written = replace(write(saving, make_run(2)), models={})
    assert saving.next_commit(written, Tally()).queue == first.queue


def test_there_is_no_commit_before_all_groups_and_networks_were_written_once(folder):
    saving = make_saving(folder)
    assert saving.next_commit(write(saving, make_run(), groups=(0,)), Tally()) is None
    assert saving.next_commit(replace(write(saving, make_run()), models={}), Tally()) is None


def test_going_back_takes_the_newest_commit_that_can_be_loaded(folder):
    saving = make_saving(folder)
    first, second = commit(saving, make_run(1)), commit(saving, make_run(2))
    assert make_saving(folder).go_back(lambda found: found) == (second, [])

    def refuse_the_second(found):
        if found == second:
            raise CheckpointError("a file of it is damaged")
        return found

    back = make_saving(folder)
    assert back.go_back(refuse_the_second) == (
        first,
        [
            "a checkpoint cannot be used: a file of it is damaged",
            "an earlier one is used, of iteration 10",
        ],
    )
    assert back.last == first
    assert folder.commits() == [first]
    assert commit(back, make_run(3)).number == 1


def test_there_may_be_nothing_to_go_back_to(folder):
    saving = make_saving(folder)
    assert saving.go_back(lambda found: found) == (None, [])
    commit(saving, make_run(1))

    def refuse(found):
        raise CheckpointError("damaged")

    found, problems = saving.go_back(refuse)
    assert found is None
    assert problems[-1] == "no checkpoint can be used: the run starts again from iteration 0"
    assert saving.last is None
    assert folder.commits() == []


def test_a_store_that_cannot_be_read_is_no_reason_to_start_again(folder):
    saving = make_saving(folder)
    made = commit(saving, make_run(1))

    def fail(found):
        raise StorageError("gave up")

    with pytest.raises(StorageError):
        saving.go_back(fail)
    assert folder.commits() == [made]


def test_cleaning_up_leaves_the_last_commit_as_it_is(folder):
    saving, run = make_saving(folder), make_run(1)
    made = commit(saving, run)
    folder.write_groups(make_run(2).groups)
    saving.clean_up()
    names = {entry.path for entry in folder.place.files()}
    assert names == {file.name for file in made.files} | {"commit-00000000.json"}


def test_groups_that_meet_are_before_the_same_iteration_in_every_commit(folder):
    meeting = Saving(folder, EVERY_20_S, num_groups=2, groups_meet=True)
    run = make_run(1)
    ahead = replace(run.groups[0], iteration=run.groups[1].iteration + 1)
    apart = replace(run, groups={0: ahead, 1: run.groups[1]})
    assert meeting.next_commit(write(meeting, apart), Tally()) is None
    first = commit(meeting, replace(run, groups=dict.fromkeys((0, 1), run.groups[1])))
    # A group that is missing is as in the commit before.
    later = replace(run, groups=dict.fromkeys((0, 1), ahead))
    assert meeting.next_commit(write(meeting, later, groups=[0]), Tally()) is None
    assert commit(meeting, later).iteration == first.iteration + 1
    alone = make_saving(folder)
    assert alone.next_commit(write(alone, apart), Tally()) is not None
