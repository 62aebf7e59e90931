"""What this process can compute with; the only place outside the runners that asks the machine."""

import contextlib
import resource
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from idm_ray.errors import UserError
from idm_ray.host import give_back_freed_memory
from idm_ray.native import library
from idm_ray.native.operations import OwnConvolutions


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a process found.

    Attributes:
        device: where it would compute.
        name: the processor's or the GPU's name.
        bfloat16: whether the device multiplies bfloat16 natively.
        obstacle: why networks cannot be compiled for it; empty if they can.
        own_convolutions: which convolutions in bfloat16 our own C++ does faster than torch here.
    """

    device: Literal["cpu", "cuda"]
    name: str
    bfloat16: bool
    obstacle: str
    own_convolutions: OwnConvolutions = "none"


def look_around(device: str, *, gpu_assigned: bool, compiling: bool) -> Capabilities:
    """Find out what this process can compute with.

    Args:
        device: as configured: auto, cpu or cuda.
        gpu_assigned: whether this process may use a GPU at all.
        compiling: whether networks would be compiled on a CPU; if so, it is done here, once per
            machine, which takes seconds.

    Raises:
        UserError: a GPU is asked for, or was assigned, and torch cannot use it.
    """
    wants_gpu = device == "cuda" or (device == "auto" and gpu_assigned)
    if wants_gpu and not torch.cuda.is_available():
        raise UserError(
            "expected a GPU, but torch finds none it can use (no GPU, no driver, or a CPU build "
            "of torch); use --device cpu to compute on the CPU"
        )
    if wants_gpu:
        return Capabilities(
            device="cuda",
            name=processor("cuda"),
            bfloat16=torch.cuda.get_device_capability() >= (8, 0),
            obstacle="" if _can_compile() else "no C++ compiler and Python headers were found",
        )
    return Capabilities(
        device="cpu",
        name=processor("cpu"),
        bfloat16=_supports("_is_amx_tile_supported", "_is_avx512_bf16_supported"),
        obstacle=library.load().obstacle if compiling else "",
        own_convolutions=_own_convolutions() if compiling else "none",
    )


def processor(device: str) -> str:
    """The name of what computes on a device, cpu or cuda."""
    return torch.cuda.get_device_name() if device == "cuda" else _processor_name()


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far that is its own: no mapped files.

    Linux keeps the peak of all resident memory, but tells only for now how much of it is mapped
    files and shared memory; that much is taken off. Elsewhere the peak of all stands in for it.
    """
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
        mapped = int(fields["RssFile"]) + int(fields["RssShmem"])
        return max(0, int(fields["VmHWM"]) - mapped) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory() -> None:
    """Let `peak_memory_bytes` begin anew, where the system allows it; else it stays what it was."""
    give_back_freed_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _supports(*checks: str) -> bool:
    """Whether the processor passes any of torch's private checks.

    There are no public ones; on a torch without them the answer is no.
    """
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def _own_convolutions() -> OwnConvolutions:
    """Torch's convolutions use matrix units (AMX) where there are some, and then win."""
    if not library.load().has_convolutions:
        return "none"
    return "first" if _supports("_is_amx_tile_supported") else "all"


def _can_compile() -> bool:
    """Whether torch finds what it compiles for GPUs with: a compiler and Python's headers."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return headers.exists() and any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "CPU"
