"""What the operating system gives this process: cores, memory, folders. Needs no torch."""

import contextlib
import ctypes
import os
import tempfile
from pathlib import Path

_M_MMAP_MAX = -4
_M_TRIM_THRESHOLD = -1


def num_cores() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def user_cache() -> Path:
    """Where files are kept that can be made again; may not exist yet.

    Users without a home, as in some containers, have a folder of their own among temporary files.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(chosen or Path.home() / ".cache") / "idm_ray"
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"idm_ray-{os.getuid()}")


def boot_id() -> str:
    """Tell this start of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next allocation, however large.

    By default glibc gives large blocks back at once and gets them again from the kernel, which
    clears every page. A training step allocates hundreds of megabytes; the clearing takes longer
    than some convolutions. Elsewhere than on glibc this does nothing.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Have the C library give the memory that it keeps back to the kernel, once."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
