"""Compiles the C++ sources for this machine's processor, once, and loads the result.

The sources need a C++ compiler and nothing else: no headers of torch or Python, so compiling takes
seconds. The library lies in the user's cache folder under a name that tells the sources, the
compiler, its flags and the processor, so that machines may share the folder.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from idm_ray.host import user_cache

_SOURCES = ("blocks.cpp", "convolutions.cpp")
_HEADERS = ("common.h",)
_COMPILERS = ("g++", "clang++", "c++")
# Without traps and errno, loops become vectors; NaN and infinity stay what they are.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
_LOCK_TIMEOUT_S = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """What came of compiling.

    Attributes:
        functions: the loaded library, None if there is none.
        obstacle: why there is none, in one line; empty otherwise.
    """

    functions: ctypes.CDLL | None
    obstacle: str = ""

    @property
    def has_convolutions(self) -> bool:
        """Whether the processor has the instructions that our convolutions are written in."""
        return self.functions is not None and hasattr(self.functions, "winograd_convolution")


@functools.cache
def load() -> Library:
    """The library for this machine, compiled if it is not in the cache; once per process."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return Library(functions=None, obstacle="no C++ compiler was found")
    try:
        return Library(functions=ctypes.CDLL(str(_compiled(compiler))))
    except subprocess.CalledProcessError as error:
        first = next(iter(error.stderr.strip().splitlines()), "no message")
        return Library(functions=None, obstacle=f"{compiler} failed: {first}")
    except OSError as error:
        return Library(functions=None, obstacle=f"the compiled library cannot be used: {error}")


def _compiled(compiler: str) -> Path:
    folder = _writable_folder()
    target = folder / f"{_key(compiler)}.so"
    with FileLock(folder / "lock", timeout=_LOCK_TIMEOUT_S):
        if not target.exists():
            unfinished = target.with_suffix(f".{os.getpid()}")
            sources = [str(Path(__file__).with_name(name)) for name in _SOURCES]
            command = [compiler, *_FLAGS, *sources, "-o", str(unfinished)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            unfinished.replace(target)
    return target


def _writable_folder() -> Path:
    for root in (user_cache(), Path(tempfile.gettempdir(), f"idm_ray-{os.getuid()}")):
        folder = root / "native"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError(f"no folder to write it to, neither {user_cache()} nor a temporary one")


def _key(compiler: str) -> str:
    parts = [Path(__file__).with_name(name).read_bytes() for name in (*_SOURCES, *_HEADERS)]
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True)
    parts += [version.stdout, " ".join(_FLAGS).encode(), _processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _processor() -> bytes:
    """What the compiler's "native" means here: the processor's model and its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return " ".join(os.uname()).encode()
    told = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(sorted({line for line in lines if line.startswith(told)}))
