import subprocess
import sys
from pathlib import Path

import pytest

from idm_ray.host import num_cores, user_cache

COUNT = """
import resource, sys
from idm_ray.host import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    bytearray(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(how):
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    pages = 2**25 / 4096
    assert page_faults("keep") < page_faults("default") - 10 * pages


def test_there_is_a_core():
    assert num_cores() >= 1


def test_the_cache_follows_the_user_s_setting(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert user_cache() == Path("/somewhere/idm_ray")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache() == Path.home() / ".cache" / "idm_ray"
