"""The examples in the docstrings of public names, as they stand; that of `tune` is one on Ray."""

import pytest

import idm_ray
from idm_ray.results.condensed_set import CondensedSet
from tests.docstrings import complaints
from tests.making_runs import run

PUBLIC = [getattr(idm_ray, name) for name in idm_ray.__all__ if name != "tune"]
METHODS = [CondensedSet.dataset, CondensedSet.fit]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("docstrings")
    run(place / "runs" / "demo", partition=1, repeats=1)
    return place


@pytest.mark.parametrize("named", [*PUBLIC, *METHODS], ids=lambda named: named.__qualname__)
def test_the_examples_of_a_docstring_hold(named, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert not complaints(named)
