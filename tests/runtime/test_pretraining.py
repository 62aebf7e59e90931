"""Pretrained networks on Ray: trained by tasks, handed to the queue by reference."""

import numpy as np
import pytest
import ray

from idm_ray.algorithm.state import Pretrained
from idm_ray.errors import NonFiniteLossError
from idm_ray.progress import Announcement
from idm_ray.run import condense
from idm_ray.runtime.driver import RayRunner
from tests.runtime.running import TINY, begin, pixels_of, settled

PRETRAINED = {"pretrained": 5, "pretrain_steps": 4, "pretrained_classes": 4}


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    """Networks that this process keeps are not found by those of the cluster."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("seed", "where"),
    [
        (11, {"actors": 2, "gpus_per_actor": 0, "cpus_per_actor": 0}),
        (12, {"actors": 3}),
    ],
    ids=["without resources", "on GPUs"],
)
@pytest.mark.usefixtures("_own_cache")
def test_networks_trained_by_tasks_give_the_local_images_bit_for_bit(seed, where, tmp_path):
    options = PRETRAINED | {"seed": seed}
    local = pixels_of(tmp_path / "local", local=True, **options)
    events = []
    on_ray = pixels_of(tmp_path / "ray", listener=events.append, **options, **where)
    assert on_ray.tobytes() == local.tobytes()
    said = [e.text for e in events if isinstance(e, Announcement)]
    told = sorted(text for text in said if text.startswith("pretrained network"))
    assert [text.split(":")[0] for text in told] == [f"pretrained network {n}" for n in range(5)]
    assert not [text for text in told if "from the cache" in text]


def weights_in(value):
    """Bytes of all arrays in what was fetched."""
    if isinstance(value, Pretrained):
        return value.weights.nbytes
    return sum(map(weights_in, value)) if isinstance(value, list | tuple) else 0


def test_weights_go_to_the_queue_by_reference_and_never_through_the_driver(monkeypatch, tmp_path):
    fetched, get = [], ray.get

    def watched(references):
        fetched.append(get(references))
        return fetched[-1]

    monkeypatch.setattr(ray, "get", watched)
    runner = RayRunner(*settled(actors=2, gpus_per_actor=0, **PRETRAINED), {}, pixels=0)
    try:
        reports = begin(runner, tmp_path)
        for _ in runner.condense():
            pass
    finally:
        runner.close()
    assert sorted(report.member for report in reports) == list(range(5))
    assert all(report.steps == 4 and 0 <= report.accuracy <= 1 for report in reports)
    assert len(fetched) > len(reports)
    assert weights_in(fetched) == 0
    assert weights_in([Pretrained(weights=np.zeros(2, np.float32), images=1, correct=1)]) == 8


def test_a_network_that_diverges_ends_the_run_in_our_own_words(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"pretrained network \d are not finite after 4"):
        condense(out=tmp_path / "run", **TINY | PRETRAINED | {"actors": 2, "lr_net": 1e30})
