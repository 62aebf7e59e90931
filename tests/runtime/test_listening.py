"""A cluster of this process's own is within reach of this machine alone."""

import ipaddress
import json
import os
import subprocess
import sys

PROGRAM = """
import json
from idm_ray.runtime.connection import connect
connect()
import ray, psutil  # the second one comes with the first
ray.get(ray.remote(num_cpus=0)(lambda: 0).remote())
here = psutil.Process()
ports = {
    (process.name(), socket.laddr.ip)
    for process in (here, *here.children(recursive=True))
    for socket in process.net_connections("inet")
    if socket.status == psutil.CONN_LISTEN
}
print(json.dumps(sorted(ports)))
"""


def test_all_processes_of_an_own_cluster_listen_on_loopback_alone():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    # Paths of sockets are short, whatever TMPDIR says.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "RAY_TMPDIR": "/tmp"},
    )
    ports = json.loads(done.stdout.splitlines()[-1])
    assert {"gcs_server", "raylet"} <= {name for name, _ in ports}
    for name, host in ports:
        address = ipaddress.ip_address(host)
        plain = getattr(address, "ipv4_mapped", None) or address
        assert plain.is_loopback, (name, host)
