"""Runs that several tests look at."""

import pytest

from tests.making_runs import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a run with tiles, several images per class, and all baselines."""
    options = {"ipc": 3, "partition": 2, "repeats": 2, "whole_epochs": 1}
    return run(tmp_path_factory.mktemp("page") / "run", **options).folder
