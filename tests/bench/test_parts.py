import time
from typing import get_args

from idm_ray.algorithm.spans import Part, span
from idm_ray.bench.parts import OTHER, Kernel, Span, kernel_seconds, seconds_per_part, span_seconds


def test_spans_of_a_part_are_added_up():
    found = span_seconds([Span("real", 0, 5e5), Span("data", 5e5, 6e5), Span("real", 1e6, 2e6)])
    assert found == {**dict.fromkeys(get_args(Part), 0.0), "real": 1.5, "data": 0.1}


def test_a_kernel_belongs_to_the_span_in_which_it_was_launched():
    spans = [Span("training", 100, 200), Span("real", 0, 50)]
    kernels = [
        Kernel(0, 1e6),
        Kernel(50, 2e6),
        Kernel(60, 4e6),
        Kernel(150, 8e6),
        Kernel(300, 16e6),
    ]
    found = kernel_seconds(spans, [*kernels, Kernel(-1, 32e6)])
    assert found == {**dict.fromkeys(get_args(Part), 0.0), "real": 3.0, "training": 8.0}


def test_parts_and_the_rest_add_up_to_the_whole():
    def compute(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    def work():
        with span("real"):
            compute(0.01)
        with span("training"):
            compute(0.05)
        compute(0.03)

    began = time.perf_counter()
    found = seconds_per_part(work, "cpu")
    wall = time.perf_counter() - began
    assert set(found) == {*get_args(Part), OTHER}
    # Nearly, as clocks differ, or more: on a busy machine each may take any time longer.
    assert found["real"] > 0.009
    assert found["training"] > 0.045
    assert found[OTHER] > 0.027
    assert found["data"] == 0
    assert sum(found.values()) <= wall
