"""Tables of what a run costs: against the published algorithm, beforehand, on Ray."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import rich.filesize
from rich.markup import escape
from rich.table import Table

from idm_ray.bench.compare import Comparison, Result
from idm_ray.estimation.estimate import Estimate, Outlook
from idm_ray.terminal import duration_text

# Parts whose error decides that of the whole.
_CONDENSING = ("matching", "choosing", "training")
_ASSUMPTION = (
    "Parts were measured one after another in one process; processes side by side may be slower."
)


def bench_table(comparison: Comparison) -> Table:
    """Both implementations side by side."""
    context = comparison.context
    ratios = f"{min(comparison.ratios):.2f} to {max(comparison.ratios):.2f}"
    if comparison.ratio is None:
        title = f"{comparison.setting}: the ratio is void: {comparison.void}"
    else:
        title = (
            f"{comparison.setting}: {comparison.ratio:.2f} times as fast as published "
            f"({context['rounds']} rounds, {ratios})"
        )
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column("per iteration")
    sides = {"ours": comparison.ours, "published": comparison.published}
    for name in sides:
        table.add_column(name, justify="right")

    def row(label: str, text: Callable[[Result], str]) -> None:
        table.add_row(label, *(text(side) for side in sides.values()))

    row("seconds", lambda side: f"{side.seconds:.3f}")
    row("CPU seconds", lambda side: f"{side.cpu_s:.3f}")
    for part in comparison.ours.parts:
        row(f"  {part}", partial(_part, part))
    row("images/s", lambda side: _rate(side.images_per_s))
    row("training images/s", lambda side: _rate(side.training_images_per_s))
    row("TFLOP/s", lambda side: f"{side.tflop_per_s:.3f}")
    row("of the peak", lambda side: f"{100 * side.peak_share:.0f} %")
    row("peak memory, GB", lambda side: f"{side.peak_memory_bytes / 1e9:.2f}")
    row("arithmetic", lambda side: f"{side.precision}{', compiled' * side.compiled}")
    bare = _rate(comparison.bare_training_images_per_s)
    peaks = ", ".join(f"{k} {v:.2f}" for k, v in comparison.matmul_tflop_per_s.items())
    table.caption = escape(
        f"A bare training loop: {bare} images/s. Parts are of profiled iterations. Our warm-up: "
        f"{comparison.warm_up_s:.1f} s. Matrix product: {peaks} TFLOP/s. {context['machine']}, "
        f"{context['cores']} cores, {context['threads']} threads."
    )
    table.caption_justify = "left"
    return table


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.1f}"


def _part(name: str, side: Result) -> str:
    return f"{side.parts[name]:.3f}"


def estimate_table(estimate: Estimate) -> Table:
    """What a run will take, a column for each kind of hardware."""
    iterations = f"{estimate.iterations} iterations, " if estimate.iterations else ""
    title = escape(
        f"{estimate.source}, {estimate.method}: {estimate.ipc} per class, {iterations}"
        f"{estimate.network} in {estimate.precision}"
    )
    outlooks = [estimate.here, *([estimate.scaled] if estimate.scaled else [])]
    table = Table(title=title, title_justify="left", caption=_ASSUMPTION, caption_justify="left")
    table.add_column("what")
    for outlook in outlooks:
        table.add_column(
            f"{escape(outlook.where)}\n[italic]{escape(outlook.basis)}", justify="right"
        )
    columns = [_times(outlook) | _memory(outlook) for outlook in outlooks]
    names = dict.fromkeys(name for column in columns for name in column)
    for name in names:
        table.add_row(name, *(column.get(name, "-") for column in columns))
    table.add_section()
    for name, text in _fixed_costs(estimate).items():
        table.add_row(name, *[text] * len(outlooks))
    return table


def _times(outlook: Outlook) -> dict[str, str]:
    found = outlook.prediction
    pretraining = {"  pretraining, unless kept": duration_text(found.pretrain_s)}
    iteration = {
        "an iteration": _seconds(found.iteration_s),
        "  matching, busiest process": _seconds(found.matching_s),
        "  training networks": _seconds(found.training_s),
    }
    return {
        "time to finish": duration_text(outlook.total_s),
        "  start": duration_text(outlook.start_s),
        **(pretraining if found.pretrain_s else {}),
        "  first iterations, compilation": _seconds(found.first_s),
        "  condensing" if found.iteration_s else "  choosing": duration_text(found.condense_s),
        "  evaluation": duration_text(found.evaluate_s),
        "  first evaluation, compilation": _seconds(found.evaluate_first_s),
        **(iteration if found.iteration_s else {}),
    }


def _memory(outlook: Outlook) -> dict[str, str]:
    found = outlook.prediction
    all_bytes = found.condense_bytes
    rows = {} if all_bytes is None else {"memory, all that condense": _size(all_bytes)}
    rows |= {f"  one {name}": _size(size) for name, size in found.process_bytes.items()}
    return rows | ({"  fullest GPU": _size(found.gpu_bytes)} if found.gpu_bytes else {})


def _fixed_costs(estimate: Estimate) -> dict[str, str]:
    """What does not depend on how many processes share the work."""
    sizes = estimate.data_bytes
    known = {
        f"{name}, measured to": f"± {100 * timing.error:.1f} % ({timing.samples} samples)"
        for name, timing in estimate.timings.items()
        if timing.error is not None and name in _CONDENSING
    }
    if estimate.flops["pretrain"]:
        known["arithmetic, pretraining"] = _flop(estimate.flops["pretrain"])
    return known | {
        "arithmetic, condensing": _flop(estimate.flops["condense"]),
        "arithmetic, evaluation": _flop(estimate.flops["evaluate"]),
        "source files, read once": _size(sizes["source"]),
        "cache of decoded images": _size(sizes["cache"]),
        "images read from it, condensing": _size(sizes["condense_read"]),
        "images read from it, evaluation": _size(sizes["evaluate_read"]),
        "one full checkpoint": _size(sizes["checkpoint"]),
    }


def _size(num_bytes: int) -> str:
    return rich.filesize.decimal(num_bytes)


def _flop(count: float) -> str:
    units = ("MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")
    power = min(len(units) - 1, max(0, int(math.log10(max(count, 1)) / 3) - 2))
    return f"{count / 1000 ** (power + 2):.3g} {units[power]}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else duration_text(seconds)


def orchestration_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What an iteration costs without computing, case by case."""
    table = Table(title="milliseconds of an iteration that computes nothing", title_justify="left")
    names = ("actors", "classes", "per call", "snapshot, MB", "wall", "driver", "queue", "actor")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        case = row["case"]
        table.add_row(
            str(case["actors"]),
            str(case["classes"]),
            str(case["iterations_per_call"]),
            f"{row['snapshot_bytes'] / 1e6:.1f}",
            *(f"{1e3 * row[key]:.2f}" for key in ("seconds", "driver_s", "queue_s", "actor_s")),
        )
    table.caption = "wall: elapsed; driver, queue, one class actor: processor time"
    return table
