"""Compiles the C++ sources for this machine's processor, once, and loads the result.

The sources need a C++ compiler and nothing else: no headers of torch or Python, so compiling takes
seconds. The library lies in the user's cache folder under a name that tells the sources, the
compiler, its flags and the processor, so that machines may share the folder.
"""

import atexit
import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import stat
import subprocess  # nosec B404 # only lists of words, never a shell
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from idm_ray.host import user_cache

_SOURCES = ("blocks.cpp", "convolutions.cpp")
_HEADERS = ("common.h",)
_COMPILERS = ("g++", "clang++", "c++")
# Without traps and errno, loops become vectors; NaN and infinity stay what they are. Pairs of
# numbers are written as 16 bits and read as 32.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
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
    found = map(shutil.which, (os.environ.get("CXX") or "", *_COMPILERS))
    compilers = [compiler for compiler in found if compiler]
    library = Library(functions=None, obstacle="no C++ compiler was found")
    for compiler in compilers:
        library = _load_with(compiler)
        if library.functions is not None:
            break
    return library


def _load_with(compiler: str) -> Library:
    try:
        return Library(functions=_compiled(compiler))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        told = next((line for line in lines if "error" in line), lines[0])
        return Library(functions=None, obstacle=f"{compiler} failed: {told}")
    except (OSError, Timeout) as error:
        return Library(functions=None, obstacle=f"the compiled library cannot be used: {error}")


def _compiled(compiler: str) -> ctypes.CDLL:
    folder = _own_folder()
    target = folder / f"{_key(compiler)}.so"
    with FileLock(folder / "lock", timeout=_LOCK_TIMEOUT_S):
        with contextlib.suppress(OSError):  # not there, or cut short by a crash: compiled anew
            return ctypes.CDLL(str(target))
        unfinished = target.with_suffix(f".{os.getpid()}")
        sources = [str(Path(__file__).with_name(name)) for name in _SOURCES]
        command = [compiler, *_FLAGS, *sources, "-o", str(unfinished)]
        _output_of(command)
        unfinished.replace(target)
        return ctypes.CDLL(str(target))


def _own_folder() -> Path:
    """A folder that nobody else can write to: what lies in it is executed."""
    with contextlib.suppress(OSError):
        folder = user_cache() / "native"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        ours = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if ours and stat.S_ISDIR(found.st_mode) and os.access(folder, os.W_OK):
            return folder
    return _temporary_folder()


@functools.cache
def _temporary_folder() -> Path:
    """A new folder for this process alone, removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="idm-ray-native-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _key(compiler: str) -> str:
    parts = [Path(__file__).with_name(name).read_bytes() for name in (*_SOURCES, *_HEADERS)]
    parts += [_output_of([compiler, "--version"]).encode(), " ".join(_FLAGS).encode(), _processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _output_of(command: list[str]) -> str:
    """What the user's compiler says."""
    done = subprocess.run(  # nosec B603 # a program and words for it, none of them a stranger's
        command, check=True, capture_output=True, text=True
    )
    return done.stdout


def _processor() -> bytes:
    """What the compiler's "native" means here: the processor's model and its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return " ".join(os.uname()).encode()
    told = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(sorted({line for line in lines if line.startswith(told)}))
