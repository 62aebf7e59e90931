"""A real Prometheus that collects what a cluster exports."""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request

from tests.jobs.cluster import free_ports, wait_until

_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: ray
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Answers queries.

    Args:
        port: where it listens.
    """

    def __init__(self, port):
        self._address = f"http://127.0.0.1:{port}"

    def is_ready(self):
        """Whether it answers."""
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self._address}/-/ready").status == 200
        return False

    def ask(self, query):
        """What a query finds now: its series."""
        words = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self._address}/api/v1/query?{words}") as answer:
            return json.load(answer)["data"]["result"]


@contextlib.contextmanager
def prometheus(folder, *, metrics):
    """Start one that asks at a port of this machine every second, and end it."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(port=metrics))
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(port)
        wait_until(server.is_ready, "Prometheus answers")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)
