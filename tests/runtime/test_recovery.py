"""Processes of a run are lost, and its numbers are those of a run that nothing happened to."""

import re
import signal

import pytest

from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import ActorLostError
from idm_ray.progress import Announcement, Committed, Evaluated, Progress
from idm_ray.run import condense, resume
from idm_ray.storage import Location
from tests.chaos.comparing import assert_same
from tests.chaos.processes import strike, titled
from tests.runtime.running import TINY

OPTIONS = TINY | {
    "iterations": 50,
    "eval_interval": 30,
    "repeats": 2,
    "eval_epochs": 10,
    "checkpoint_interval": 5,
}
WITHOUT_EVALUATION = {"eval_interval": 0, "repeats": 0}
ON_RAY = OPTIONS | {"actors": 3, "gpus_per_actor": 0}
EVALUATION, KEEPER = "ray::evaluate", "ray::_Keeper"


class Killer:
    """Listens to a run and ends processes of it, one after the other, each at its moment.

    Args:
        session: folder of the cluster.
        folder: of the run.
        deeds: moments, each with whom it ends: a name that the run announces, or a title.
    """

    def __init__(self, session, folder, *deeds, with_signal=signal.SIGKILL):
        self.session, self.folder = session, folder
        self.deeds = list(deeds)
        self.with_signal = with_signal
        self.pids, self.said, self.done = {}, [], []

    def __call__(self, event):
        if isinstance(event, Announcement):
            self.said.append(event.text)
            places = re.findall(r"(class actor \d+|model queue): node \d+, pid (\d+)", event.text)
            self.pids |= {name: int(pid) for name, pid in places}
        if not self.deeds or not self.deeds[0][0](self, event):
            return
        who = self.deeds[0][1]
        pids = [self.pids[who]] if who in self.pids else titled(self.session, who)
        if any(strike(pid, self.with_signal) for pid in pids[:1]):
            self.done.append(f"{who} at {event!s:.60}")
            self.deeds.pop(0)


def after(iteration):
    """When an iteration or a later one is reported."""
    return lambda killer, event: isinstance(event, Progress) and event.iteration >= iteration


def while_a_commit_is_written(after_iteration):
    """When there are files of a commit that is not published yet."""

    def is_written(killer, event):
        if not after(after_iteration)(killer, event):
            return False
        folder = CheckpointFolder(Location.at(killer.folder / "checkpoints"))
        commits = [commit for commit in folder.commits() if isinstance(commit, Commit)]
        listed = {file.name for commit in commits for file in commit.files}
        return bool(
            {entry.path for entry in folder.place.files() if "group" in entry.path} - listed
        )

    return is_written


def when_a_commit_is_complete(killer, event):
    """From then on there is somewhere to go on from."""
    return isinstance(event, Committed)


def when_a_network_is_evaluated(killer, event):
    """Others are then being evaluated, at the end of a run."""
    return isinstance(event, Evaluated) and event.job.iteration == OPTIONS["iterations"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    condense(out=folder, local=True, **OPTIONS)
    return folder


def run(folder, session, *deeds, with_signal=signal.SIGKILL, **options):
    """A run whose processes are ended, which comes to its end all the same."""
    killer = Killer(session, folder, *deeds, with_signal=with_signal)
    condense(out=folder, listener=killer, **ON_RAY | options)
    assert not killer.deeds, f"not done: {killer.deeds}; done: {killer.done}"
    return killer


def losses(killer):
    return [text for text in killer.said if " lost: " in text]


def test_whoever_dies_the_numbers_are_those_of_a_run_that_nothing_happened_to(
    cluster, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    killer = run(
        folder,
        cluster.address_info["session_dir"],
        (after(2), "class actor 1"),  # before the first commit
        (after(12), "model queue"),
        (while_a_commit_is_written(20), "class actor 2"),
        (while_a_commit_is_written(30), KEEPER),
        (after(OPTIONS["iterations"]), "class actor 0"),  # which still has its images
        (when_a_network_is_evaluated, EVALUATION),
    )
    assert_same(folder, undisturbed)
    told = losses(killer)
    assert [text.split(" (")[0] for text in told[:-1]] == [
        "class actor 1",
        "the model queue",
        "class actor 2",
        "class actor 0",
    ]
    evaluation = r"evaluation \d of \w+ \(logs of its node in (\S+)\) lost: .*"
    assert re.fullmatch(evaluation, told[-1])[1] == f"{killer.session}/logs"
    # The end of the keeper is nobody's loss.
    assert [text for text in killer.said if text == "going on from iteration 0"]


def test_one_loss_too_many_ends_the_run_and_says_who_why_and_where_to_look(
    cluster, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    deed = (when_a_commit_is_complete, "class actor 0")
    killer = Killer(cluster.address_info["session_dir"], folder, deed)
    with pytest.raises(ActorLostError) as lost:
        condense(out=folder, listener=killer, **ON_RAY | {"max_failures": 0})
    message = str(lost.value)
    found = re.fullmatch(
        r"class actor 0 \(pid (\d+) on node \w{8}, log (\S+)\) lost: its worker process has died "
        r"\(ActorDiedError\); that makes 1 lost processes, and --max-failures 0 allows no more",
        message,
    )
    assert found, message
    assert int(found[1]) == killer.pids["class actor 0"]
    assert f"-{found[1]}.err" in found[2]
    assert re.fullmatch(
        rf"the run goes on from iteration \d+ with: idm-ray resume {folder}", killer.said[-1]
    )
    resume(folder, local=True)
    assert_same(folder, undisturbed)


def test_a_process_that_hangs_is_replaced_like_one_that_died(cluster, tmp_path):
    options = {"pretrained": 2, "pretrain_steps": 4, "iterations": 20} | WITHOUT_EVALUATION
    condense(out=tmp_path / "local", local=True, **OPTIONS | options)
    killer = run(
        tmp_path / "ray",
        cluster.address_info["session_dir"],
        (after(8), "class actor 1"),
        with_signal=signal.SIGSTOP,
        hang_timeout_s=4.0,
        **options,
    )
    (told,) = losses(killer)
    assert "class actor 1 finished nothing for" in told
    assert_same(tmp_path / "ray", tmp_path / "local")


def stopped_by(iteration):
    """Listens to a run and stops it as Ctrl-C does, when so many iterations are reported."""

    def listen(event):
        if isinstance(event, Progress) and event.iteration >= iteration:
            raise KeyboardInterrupt

    return listen


def test_where_classes_meet_losses_and_another_layout_change_no_number(cluster, tmp_path):
    options = OPTIONS | {"iterations": 14, "eval_interval": 6, "repeats": 1, "eval_epochs": 2}
    options |= {"method": "dsa", "ipc": 2, "outer_rounds": 3, "inner_epochs": 2}
    options |= {"checkpoint_interval": 2}
    condense(out=tmp_path / "undisturbed", local=True, **options)
    folder = tmp_path / "run"
    killer = Killer(
        cluster.address_info["session_dir"],
        folder,
        *((after(3), "class actor 1"), (after(6), "model queue")),
    )

    def listen(event):
        killer(event)
        if not killer.deeds:
            stopped_by(9)(event)

    with pytest.raises(KeyboardInterrupt):
        condense(out=folder, listener=listen, **options | {"actors": 3, "gpus_per_actor": 0})
    assert [text.split(" (")[0] for text in losses(killer)] == ["class actor 1", "the model queue"]
    commit = CheckpointFolder(Location.at(folder / "checkpoints")).commits()[0]
    assert len({group.iteration for group in commit.groups}) == 1
    assert commit.iteration >= 9
    with pytest.raises(KeyboardInterrupt):
        resume(folder, listener=stopped_by(12), actors=2)
    resume(folder, local=True)
    assert_same(folder, tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_class_actors_and_without_ray(
    cluster, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        condense(out=folder, listener=stopped_by(13), **ON_RAY | {"actors": 1})
    with pytest.raises(KeyboardInterrupt):
        resume(folder, listener=stopped_by(36), actors=3)
    resume(folder, local=True)
    assert_same(folder, undisturbed)


@pytest.mark.slow
def test_networks_that_all_commits_share_are_trained_again(cluster, undisturbed, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        condense(out=folder, listener=stopped_by(24), **ON_RAY)
    for file in (folder / "checkpoints").glob("model-*"):
        file.write_bytes(file.read_bytes()[:-1])
    said = []
    resume(folder, listener=said.append)
    texts = [event.text for event in said if isinstance(event, Announcement) and event.warning]
    assert any("the networks are trained again from the first iteration" in text for text in texts)
    assert_same(folder, undisturbed)
