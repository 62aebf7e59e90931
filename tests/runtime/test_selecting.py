"""Methods that choose real images, and comparisons, are the same on Ray as in one process."""

import pytest

import idm_ray
from idm_ray.methods.catalog import find_method
from tests.runtime.running import TINY

ACTORS = {"actors": 2, "gpus_per_actor": 0, "cpus_per_actor": 0.5}


def settings(method):
    """The tiny settings as far as the method has them."""
    unused = set(find_method(method).unused)
    steps = {} if method == "random" else {"pretrain_steps": 9}
    return {n: v for n, v in TINY.items() if n not in unused} | {"method": method, "ipc": 2} | steps


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("random", marks=pytest.mark.slow),
        "forgetting",
        pytest.param("kmeans", marks=pytest.mark.slow),
    ],
)
def test_the_same_images_are_chosen(method, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_both = settings(method)
    local = idm_ray.condense(out=tmp_path / "local", local=True, **of_both)
    on_ray = idm_ray.condense(out=tmp_path / "ray", **ACTORS, **of_both)
    assert (on_ray.folder / "condensed.parquet").is_file()
    one, other = (idm_ray.load(finished.folder).images for finished in (local, on_ray))
    assert one.equal(other)
    assert on_ray.summary["ray_share"] is None
    assert on_ray.summary["peak_rss_bytes"] > 0


def test_a_comparison_finds_the_same_accuracies(tmp_path):
    shared = {n: v for n, v in TINY.items() if n != "repeats"}
    asked = {"methods": "random,idm,whole", "repeats": 2, "eval_epochs": 2, "whole_epochs": 1}
    local = idm_ray.compare(out=tmp_path / "local", local=True, **shared | asked)
    on_ray = idm_ray.compare(out=tmp_path / "ray", **ACTORS, **shared | asked)
    assert [c.accuracies for c in on_ray.cells] == [c.accuracies for c in local.cells]
    assert [len(c.all_accuracies) for c in on_ray.cells] == [2, 2, 1]
