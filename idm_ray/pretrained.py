"""The set of pretrained networks: each is trained once, then kept in the user's cache folder.

A file holds an `.npy` array of weights, one of the counts behind their accuracy, and the SHA-256 of
both. Its name tells everything that decides the bits.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from idm_ray import __version__
from idm_ray.algorithm.model_start import pretraining_steps
from idm_ray.algorithm.pretraining import pretrain
from idm_ray.algorithm.state import Pretrained
from idm_ray.host import user_cache
from idm_ray.local_disk import atomic_write
from idm_ray.machine import processor
from idm_ray.plan import Lesson, Plan
from idm_ray.real_images import RealImages

_FORMAT = 1
"""Part of every name: raise it when a file would mean something else."""
_DIGEST_BYTES = 32
# What computes the weights: a change of it makes other networks under the same options.
_CODE = (
    *("algorithm/*.py", "native/*.py", "native/*.cpp", "native/*.h", "data/sampling.py"),
    *("building.py", "network_names.py", "real_images.py"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainReport:
    """What one pretrained network is, and what it took.

    Attributes:
        member: its number in the set.
        steps: that it was trained.
        accuracy: training accuracy of its last steps, a fraction.
        seconds: of training it now, or of reading it.
        cached: whether it was there already.
        obstacle: why it could not be kept for the next run; empty if it could.
    """

    member: int
    steps: int
    accuracy: float
    seconds: float
    cached: bool
    obstacle: str = ""


def pretrained_network(plan: Plan, member: int) -> tuple[Pretrained, PretrainReport]:
    """One network of the set, after all steps that the plan trains it; see `pretrained_networks`.

    Args:
        plan: of the run.
        member: its number in the set.
    """
    steps = pretraining_steps(plan.config.queue, sum(plan.info.train_counts))
    return pretrained_networks(plan, Lesson(member=member, steps=(steps,)))[0]


def pretrained_networks(plan: Plan, lesson: Lesson) -> list[tuple[Pretrained, PretrainReport]]:
    """A network whenever it is looked at, trained if that is not all kept yet.

    Several processes may ask for it at once: one trains, the others wait. A file that is damaged is
    made again. A folder that cannot be written to costs the next run the time, not this one its
    life.

    Args:
        plan: of the run.
        lesson: which network, and when it is looked at.

    Raises:
        DataError: the data found here is not the data of the plan.
        NonFiniteLossError: it diverged.
    """
    began = time.perf_counter()
    paths = [
        user_cache() / "pretrained" / f"{_key(plan, lesson.member, steps)}.npy"
        for steps in lesson.steps
    ]
    found: list[tuple[Pretrained, PretrainReport]] = []

    def add(network: Pretrained, *, cached: bool, obstacle: str = "") -> None:
        nonlocal began
        now = time.perf_counter()
        report = PretrainReport(
            member=lesson.member,
            steps=lesson.steps[len(found)],
            accuracy=network.accuracy,
            seconds=now - began,
            cached=cached,
            obstacle=obstacle,
        )
        began = now
        found.append((network, report))

    with _alone(paths[-1]):
        kept = [_read(path, plan) for path in paths]
        if all(network is not None for network in kept):
            for network in kept:
                assert network is not None
                add(network, cached=True)
        else:
            for path, network in zip(paths, _train(plan, lesson), strict=True):
                add(network, cached=False, obstacle=_keep(path, network))
    return found


def _train(plan: Plan, lesson: Lesson) -> Iterator[Pretrained]:
    with RealImages(plan) as real:
        real.fill_cache()
        yield from pretrain(
            plan.build_network(),
            plan.numerics,
            real.pretraining_batch,
            member=lesson.member,
            looks=lesson.steps,
            lr=plan.config.queue.lr_net,
            seed=plan.config.condense.seed,
        )


def _key(plan: Plan, member: int, steps: int) -> str:
    condense, queue, info = plan.config.condense, plan.config.queue, plan.info
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "member": member,
        "seed": condense.seed,
        "network": condense.network,
        "steps": steps,
        "batch_train": queue.batch_train,
        "lr_net": float(queue.lr_net),
        "data": info.fingerprint,
        "normalised by": (info.mean, info.std),
        "numerics": dataclasses.asdict(plan.numerics),
        "processor": processor(plan.numerics.device),
        "versions": (__version__, torch.__version__, np.__version__),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for pattern in _CODE:
        for path in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else deals with this file meanwhile, if its folder can be written to."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def _read(path: Path, plan: Plan) -> Pretrained | None:
    """A kept network; None if there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    arrays, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(arrays).digest() != digest:
        return None
    file = io.BytesIO(arrays)
    try:
        weights, counts = (np.lib.format.read_array(file, allow_pickle=False) for _ in range(2))
    except ValueError:  # no arrays, or pickled ones
        return None
    num_weights = sum(p.numel() for p in plan.build_network().parameters())
    if weights.shape != (num_weights,) or weights.dtype != np.float32 or counts.shape != (2,):
        return None
    images, correct = counts.tolist()
    return Pretrained(weights=weights, images=images, correct=correct)


def _keep(path: Path, network: Pretrained) -> str:
    """Write a file; what went wrong, if anything did."""
    file = io.BytesIO()
    for array in (network.weights, np.array([network.images, network.correct])):
        np.lib.format.write_array(file, array, allow_pickle=False)
    arrays = file.getvalue()
    try:
        with atomic_write(path) as target:
            target.write(arrays + hashlib.sha256(arrays).digest())
    except OSError as error:
        return f"{path.parent}: {error.strerror or error}"
    return ""
