"""A cluster of two nodes on this machine, in a process of its own.

Run as a program, it says where the cluster is and then does what it reads, a word a line: remove
the second node, as if it had lost its power, or add it again.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CPUS = 2

# A node counts as lost after a second without an answer, not after half a minute.
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}


@dataclass(frozen=True)
class TwoNodes:
    """What a test knows of the cluster.

    Attributes:
        address: for RAY_ADDRESS.
        session: folder of the cluster.
    """

    address: str
    session: str
    process: subprocess.Popen

    def tell(self, word):
        """Have it remove or add the second node; returns when that is done."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{word}\n"


@contextlib.contextmanager
def two_nodes():
    """Start a cluster, and end it."""
    # Paths of sockets may not be long.
    with tempfile.TemporaryDirectory(prefix="idm-", dir="/tmp") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.two_nodes", folder],
            cwd=ROOT,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield TwoNodes(**json.loads(process.stdout.readline()), process=process)
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def main():
    """Serve the commands of a test until it has no more."""
    # Importing it first makes the settings that Ray reads at import.
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    from idm_ray.runtime import connection  # noqa: F401, PLC0415

    size = {"num_cpus": CPUS, "object_store_memory": 100 * 2**20}
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray's own words
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **size,
            "include_dashboard": False,
            "temp_dir": sys.argv[1],
            "_system_config": IMPATIENT,
        },
    )
    try:
        node = cluster.add_node(**size)
        place = {"address": cluster.address, "session": cluster.head_node.get_session_dir_path()}
        print(json.dumps(place), file=said, flush=True)
        for line in sys.stdin:
            if line == "remove\n":
                cluster.remove_node(node, allow_graceful=False)
            else:
                node = cluster.add_node(**size)
            print(line, end="", file=said, flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
