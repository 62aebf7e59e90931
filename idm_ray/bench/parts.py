"""Seconds per part of an iteration, read from the spans that the algorithm marks.

An iteration that is profiled is slower than others, so it is never one that is timed.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from torch.profiler import ProfilerActivity, profile

from idm_ray.algorithm.spans import PREFIX, Part
from idm_ray.bench.flops import synchronize

OTHER = "other"
"""What is in no span: loading weights, bookkeeping, on a GPU its idle time."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part from `start` to `end`, in microseconds of the host's clock."""

    part: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """Work of `duration` microseconds on a GPU, told to it at `launched`."""

    launched: float
    duration: float


def seconds_per_part(work: Callable[[], None], device: str) -> dict[str, float]:
    """Run something under a profiler.

    Args:
        work: whose spans are wanted.
        device: cpu: a span takes the time from its start to its end; cuda: the GPU's time for what
            was launched in it, by whichever thread.

    Returns:
        Seconds for each part, and of all others together as "other".
    """
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as profiler:
        began = time.perf_counter()
        work()
        synchronize(device)
        total = time.perf_counter() - began
    events = [e for e in profiler.events() or () if e.device_type.name == "CPU"]
    spans = [
        Span(e.name.removeprefix(PREFIX), e.time_range.start, e.time_range.end)
        for e in events
        if e.name.startswith(PREFIX)
    ]
    if device == "cuda":
        kernels = [Kernel(e.time_range.start, k.duration) for e in events for k in e.kernels]
        found = kernel_seconds(spans, kernels)
    else:
        found = span_seconds(spans)
    return {**found, OTHER: max(0.0, total - sum(found.values()))}


def span_seconds(spans: Sequence[Span]) -> dict[str, float]:
    """Sum the spans of each part; a part without any has 0."""
    sums = dict.fromkeys(get_args(Part), 0.0)
    for span in spans:
        sums[span.part] += (span.end - span.start) / 1e6
    return sums


def kernel_seconds(spans: Sequence[Span], kernels: Sequence[Kernel]) -> dict[str, float]:
    """Sum the kernels of each part: those launched within one of its spans."""
    ordered = sorted(spans, key=lambda span: span.start)
    starts = [span.start for span in ordered]
    sums = dict.fromkeys(get_args(Part), 0.0)
    for kernel in kernels:
        before = bisect_right(starts, kernel.launched)
        if before and kernel.launched <= ordered[before - 1].end:
            sums[ordered[before - 1].part] += kernel.duration / 1e6
    return sums
