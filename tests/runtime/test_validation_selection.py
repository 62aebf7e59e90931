"""On Ray, the iterate that is selected is that of the local runner, whoever dies on the way."""

import json

import pytest

from idm_ray.progress import Evaluated
from idm_ray.run import condense, resume
from tests.chaos.comparing import assert_same
from tests.runtime.running import TINY
from tests.runtime.test_recovery import Killer, after, losses

OPTIONS = TINY | {
    "iterations": 12,
    "eval_interval": 4,
    "repeats": 1,
    "eval_epochs": 4,
    "baselines": "off",
    "val_fraction": 0.2,
    "select": "validation",
    "checkpoint_interval": 2,
    "precision": "float32",
    "compile": "off",
}
ON_RAY = OPTIONS | {"actors": 3, "gpus_per_actor": 0}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "run"
    condense(out=folder, local=True, **OPTIONS)
    return folder


def selected(folder):
    return json.loads((folder / "summary.json").read_text())["selected"]


def assert_selects_the_same(folder, reference):
    assert_same(folder, reference)
    assert selected(folder) == selected(reference)
    files = [(place / "selected.parquet").read_bytes() for place in (folder, reference)]
    assert files[0] == files[1]


def test_it_is_the_local_one_bit_for_bit(local, tmp_path):
    assert selected(local)["iteration"] < 12, "the tests here need a copy that is the best"
    condense(out=tmp_path, **ON_RAY)
    assert_selects_the_same(tmp_path, local)


def judged(iteration):
    """When an iterate has its first result."""
    return lambda killer, event: isinstance(event, Evaluated) and event.job.iteration == iteration


def test_processes_that_die_when_it_is_known_change_nothing(cluster, local, tmp_path):
    folder = tmp_path / "run"
    best = selected(local)["iteration"]
    killer = Killer(
        cluster.address_info["session_dir"],
        folder,
        (judged(best), "class actor 0"),
        (after(12), "class actor 1"),  # which still has its images and copies
    )
    condense(out=folder, listener=killer, **ON_RAY)
    assert not killer.deeds, f"not done: {killer.deeds}; done: {killer.done}"
    assert losses(killer)
    assert_selects_the_same(folder, local)


@pytest.mark.slow
def test_a_run_that_goes_on_in_one_process_selects_the_same(local, tmp_path):
    def stop(event):
        if isinstance(event, Evaluated) and event.job.selects and event.job.iteration == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        condense(out=tmp_path, listener=stop, **ON_RAY)
    resume(tmp_path, local=True)
    assert_selects_the_same(tmp_path, local)
