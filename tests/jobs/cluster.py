"""A cluster as an operator starts it: `ray start` with a token, a second node, jobs submitted."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")

# A node counts as lost after a second without an answer, not after half a minute.
IMPATIENT = (
    '{"health_check_initial_delay_ms": 0, "health_check_period_ms": 500,'
    ' "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}'
)
WITHIN_S = 300.0
NODE = ("--num-cpus=2", f"--object-store-memory={100 * 2**20}")


def free_ports(count):
    """Ports of the loopback interface that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition, what, within_s=WITHIN_S):
    """Wait until something is so; what it gives."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} within {within_s:g} s"
        time.sleep(0.2)
    return found


@dataclass
class JobCluster:
    """A head node, and what is needed to reach it.

    Attributes:
        folder: of all its files; its path is short, as paths of sockets have to be.
        gcs: port of the head.
        dashboard: port that jobs are submitted to.
        metrics: port of the head's measurements.
        token: that whoever wants in must have.
    """

    folder: Path
    gcs: int
    dashboard: int
    metrics: int
    token: str
    nodes: list = field(default_factory=list)

    @property
    def address(self):
        """Where jobs are submitted to."""
        return f"http://127.0.0.1:{self.dashboard}"

    def environment(self, *, token=True):
        """Of a process that talks to the cluster."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        plain |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),  # somebody's token may lie in the user's
        }
        return plain | ({"RAY_AUTH_TOKEN": self.token} if token else {})

    def start_node(self, *words, within=()):
        """Start a node in a process group of its own; `within` is put before its command."""
        environment = self.environment() | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
        del environment["RAY_ADDRESS"]
        with open(self.folder / f"node-{len(self.nodes)}.log", "wb") as log:
            node = subprocess.Popen(
                [*within, RAY, "start", "--block", *NODE, *words],
                env=environment,
                cwd=ROOT,  # where jobs start, too
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        return node

    def add_node(self, *, within=()):
        """Start one more node; returns when the cluster knows it."""
        before = self.alive
        agent, metrics = free_ports(2)
        node = self.start_node(
            f"--address=127.0.0.1:{self.gcs}",
            f"--dashboard-agent-listen-port={agent}",
            f"--metrics-export-port={metrics}",
            within=within,
        )
        # One that has just been ended may still count as alive.
        wait_until(lambda: self.alive - before, "a second node is there")
        return node

    @property
    def alive(self):
        """Ids of the nodes that the cluster takes to be alive; none before it answers."""
        with contextlib.suppress(OSError):
            nodes = [node["raylet"] for node in self.ask("nodes?view=summary")["data"]["summary"]]
            return {node["nodeId"] for node in nodes if node.get("state") == "ALIVE"}
        return set()

    def ask(self, path):
        """What the dashboard answers; starting one of Ray's commands takes seconds."""
        request = urllib.request.Request(f"{self.address}/{path}")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            return json.load(answer)

    def ray(self, *words, token=True):
        """Run a command of Ray's to its end."""
        return subprocess.run(
            [RAY, *map(str, words)],
            env=self.environment(token=token),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def submit(self, name, *words, token=True, wait=True):
        """Submit a job as a user does: `ray job submit -- python ...`.

        Nothing is uploaded: the nodes share a disk here, and each removes what was uploaded when it
        does not need it any more, whatever the other is doing there.
        """
        options = [f"--submission-id={name}"]
        if not wait:
            options.append("--no-wait")
        return self.ray("job", "submit", *options, "--", sys.executable, *words, token=token)

    def logs(self, name):
        """What a job has written."""
        return self.ask(f"api/jobs/{name}/logs")["logs"]

    def end_of(self, name):
        """Wait for the end of a job; how it ended."""
        ends = ("SUCCEEDED", "FAILED", "STOPPED")

        def ended():
            status = self.ask(f"api/jobs/{name}")["status"]
            return status if status in ends else None

        return wait_until(ended, f"job {name} ends")


def end(node):
    """End a node and all its processes at once, as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait(timeout=60)


@contextlib.contextmanager
def job_cluster():
    """Start a cluster, and end it."""
    with tempfile.TemporaryDirectory(
        prefix="idm-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        gcs, dashboard, agent, client, metrics = free_ports(5)
        cluster = JobCluster(
            folder=Path(folder),
            gcs=gcs,
            dashboard=dashboard,
            metrics=metrics,
            token=secrets.token_hex(16),
        )
        try:
            cluster.start_node(
                "--head",
                f"--port={gcs}",
                f"--dashboard-port={dashboard}",
                f"--dashboard-agent-listen-port={agent}",
                f"--ray-client-server-port={client}",
                f"--metrics-export-port={metrics}",
                f"--temp-dir={folder}",
                f"--system-config={IMPATIENT}",
            )
            wait_until(lambda: cluster.alive, "a head is there")
            yield cluster
        finally:
            for node in reversed(cluster.nodes):
                end(node)
