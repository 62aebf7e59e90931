"""A node of the cluster goes, with what ran on it, and comes again."""

import pytest

from idm_ray.run import condense
from tests.chaos.comparing import assert_same
from tests.chaos.driving import Driver
from tests.chaos.two_nodes import two_nodes
from tests.making_runs import as_words
from tests.runtime.running import TINY

OPTIONS = TINY | {"iterations": 60, "checkpoint_interval": 4}
# There are four CPUs, and two without the second node.
ON_NODES = OPTIONS | {"actors": 3, "cpus_per_actor": 1, "wait_s": 3}


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_class_actors_and_takes_more_when_a_node_comes(tmp_path):
    condense(out=tmp_path / "alone", local=True, **OPTIONS)
    words = as_words(out=tmp_path / "run", **ON_NODES)
    sizes, said = [], []
    with (
        two_nodes() as cluster,
        Driver("condense", *words, address=cluster.address, log=tmp_path / "log") as driver,
    ):
        removed = added = False
        for event in driver.events():
            said.append(str(event))
            if event.places:
                sizes.append(len(event.places) - 1)
            if event.kind == "Progress" and event.iteration >= 8 and not removed:
                cluster.tell("remove")
                removed = True
            if event.kind == "Progress" and sizes[-1] == 2 and not added:
                cluster.tell("add")
                added = True
    assert driver.process.returncode == 0, (tmp_path / "log").read_text()
    assert sizes == [3, 2, 3], said
    assert_same(tmp_path / "run", tmp_path / "alone")
