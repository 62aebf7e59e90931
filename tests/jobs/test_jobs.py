"""Jobs submitted to a cluster with a token: they run, are watched, lose a node, are stopped."""

import json
import platform
import re
import shutil
import subprocess
import sys

import pytest

from tests.data.making import write_tree
from tests.interrupting import iteration
from tests.jobs.cluster import ROOT, end, job_cluster, wait_until
from tests.jobs.prometheus import prometheus
from tests.making_runs import as_words, pixels
from tests.observability.queries import names_in, panel_queries, rules

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = "pipelines/imagenet_subset.py"
# Long enough to be caught in the middle.
OPTIONS = as_words(iterations=40, checkpoint_interval=5, repeats=0, threads=1, device="cpu")
ON_TWO_NODES = as_words(actors=3)
CAUGHT_AT = 8


@pytest.fixture(scope="module")
def cluster():
    """Of two nodes with two CPUs each, so that three class actors need both."""
    with job_cluster() as started:
        started.add_node()
        yield started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The pixels of the same run, alone and in one process."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    words = ["--smoke", "--out", folder, *OPTIONS, "--local"]
    subprocess.run([sys.executable, ROOT / SCRIPT, *map(str, words)], check=True)
    return pixels(folder)


def submit(cluster, name, folder, *words):
    """Submit a rehearsal that needs both nodes; it goes on with what the folder holds."""
    done = cluster.submit(
        name,
        *[SCRIPT, "--smoke", "--out", folder, "--resume", "auto", *OPTIONS, *ON_TWO_NODES, *words],
        wait=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_without_the_token_is_refused(cluster):
    done = cluster.submit("intruder", SCRIPT, "--smoke", token=False)
    assert done.returncode != 0
    assert "token" in done.stdout + done.stderr
    assert "intruder" not in cluster.ray("job", "list").stdout


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_every_panel_and_alert_finds_its_measurements_while_a_job_runs(cluster, tmp_path):
    queries = panel_queries() | {
        name: name for rule in rules() for name in sorted(names_in(rule["expr"]))
    }
    with prometheus(tmp_path, metrics=cluster.metrics) as server:
        words = as_words(repeats=1, eval_epochs=60, log_format="json")
        submit(cluster, "watched", tmp_path / "run", *words)
        assert cluster.end_of("watched") == "SUCCEEDED"

        def missing():
            # At any second of the job: what was measured last is exported some seconds later.
            asked = {name: f"max_over_time(({query})[30m:1s])" for name, query in queries.items()}
            return [name for name, query in asked.items() if not server.ask(query)]

        wait_until(lambda: not missing(), "everything is found", within_s=30.0)
    lines = [line for line in cluster.logs("watched").splitlines() if line.startswith("{")]
    assert {json.loads(line)["run"] for line in lines} == {None, "run"}


@pytest.mark.parametrize(("placement", "nodes"), [("pack", 1), ("spread", 2)])
def test_actors_are_packed_or_spread_as_asked(cluster, tmp_path, placement, nodes):
    words = as_words(iterations=2, repeats=0, threads=1, device="cpu", limit_per_class=20)
    options = as_words(actors=2, cpus_per_actor=1, placement=placement)
    done = cluster.submit(
        placement, "-m", "idm_ray.cli", "condense", "--out", tmp_path / "run", *words, *options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"class actor \d: node (\d)", cluster.logs(placement))
    assert len(found) == 2
    assert len(set(found)) == nodes


def test_a_path_that_a_node_cannot_see_is_found_at_the_start_and_named(cluster, tmp_path):
    write_tree(tmp_path / "pictures")
    hide = f'mount -t tmpfs none {tmp_path / "pictures"} && exec "$@"'
    within = ("unshare", "--mount", "sh", "-c", hide, "node")
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not hide a folder from a process")
    blind = cluster.add_node(within=within)
    words = [
        "condense",
        "--data",
        tmp_path / "pictures",
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    done = cluster.submit("blind", "-m", "idm_ray.cli", *words)
    end(blind)
    assert done.returncode == 1  # Ray's own
    (line,) = [line for line in cluster.logs("blind").splitlines() if line.startswith("idm-ray:")]
    assert "cannot use the data" in line
    assert str(tmp_path / "pictures") in line
    assert platform.node() in line
    assert not (tmp_path / "run").exists()


def test_a_node_that_dies_in_the_middle_changes_no_pixel(cluster, tmp_path, undisturbed):
    submit(cluster, "bereaved", tmp_path / "run")
    wait_until(lambda: iteration(tmp_path / "run") >= CAUGHT_AT, "the job has begun")
    end(cluster.nodes[1])
    cluster.add_node()
    assert cluster.end_of("bereaved") == "SUCCEEDED"
    assert "lost" in cluster.logs("bereaved")
    assert (pixels(tmp_path / "run") == undisturbed).all()


def test_a_job_that_is_stopped_goes_on_when_it_is_submitted_again(cluster, tmp_path, undisturbed):
    submit(cluster, "stopped", tmp_path / "run")
    wait_until(lambda: iteration(tmp_path / "run") >= CAUGHT_AT, "the job has begun")
    assert cluster.ray("job", "stop", "stopped").returncode == 0
    assert cluster.end_of("stopped") == "STOPPED"
    assert not (tmp_path / "run" / "summary.json").exists()
    submit(cluster, "again", tmp_path / "run")
    assert cluster.end_of("again") == "SUCCEEDED"
    assert "going on from iteration" in cluster.logs("again")
    assert (pixels(tmp_path / "run") == undisturbed).all()
