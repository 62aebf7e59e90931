"""Shows a run on the terminal: a progress bar where a person watches, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import rich.filesize
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.table import Table

from idm_ray.bench.compare import Comparison, Result
from idm_ray.estimation import Estimate, Outlook
from idm_ray.evaluation import Evaluation
from idm_ray.progress import Announcement, Evaluated, Progress
from idm_ray.run import Event, Finished, Started

# Plain lines come at most this often, so that a log of a long run stays readable.
LINE_EVERY_S = 30.0

_ROWS = (
    ("evaluation", "{method}"),
    ("start", "its own start"),
    ("random", "random real images"),
    ("whole", "whole data"),
)


# Parts whose error decides that of the whole.
_CONDENSING = ("matching", "training")

_ASSUMPTION = (
    "Parts were measured one after another in one process; processes side by side may be slower."
)


class Terminal:
    """Listens to a run and shows it.

    Args:
        console: where to; by default results go to standard output, all else to standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._results = console or Console(highlight=False)
        self._bar: Bar | None = None
        self._task: TaskID
        self._what, self._total, self._done = "", 0, 0
        self._began = self._last_line = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Announcement):
            style = "yellow" if event.warning else "default"
            text = f"warning: {event.text}" if event.warning else event.text
            self._console.print(escape(text), style=style)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Progress):
            self._advance(event.iteration, _losses(event))
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, Finished):
            if event.summary["evaluation"]:
                self.show(result_table(event.summary))
            self.show(cost(event.summary))
            self._console.print(escape(f"condensed set and gallery in {event.folder}"))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def show(self, result: Table | str) -> None:
        """Print a result, on standard output."""
        self.close()
        self._results.print(result, soft_wrap=isinstance(result, str))

    def _start(self, event: Started) -> None:
        self.close()
        self._what, self._total, self._done = event.what, event.total, 0
        self._began = self._last_line = time.monotonic()
        if not event.total or not self._console.is_terminal:
            return
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(event.what, total=event.total, info="")
        self._bar.start()

    def _evaluated(self, event: Evaluated) -> None:
        info = f"{event.job.subject} {100 * event.accuracy:.1f} %"
        if self._what == "evaluate":
            self._advance(self._done + 1, info)
        else:
            self._console.print(f"iteration {event.job.iteration}: {info}")

    def _advance(self, done: int, info: str) -> None:
        self._done = done
        now = time.monotonic()
        each = f"{(now - self._began) / done:.2f} s each"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, info=f"{each}, {info}")
            return
        if done < self._total and now - self._last_line < LINE_EVERY_S:
            return
        self._last_line = now
        left = (now - self._began) / done * (self._total - done)
        self._console.print(
            f"{self._what} {done}/{self._total}  {each}, {_duration(left)} left  {info}"
        )


def result_table(summary: Mapping[str, Any]) -> Table:
    """Test accuracies, mean and standard deviation with their n, each beside its protocol."""
    kept = summary["ipc"] * summary["num_classes"]
    title = (
        f"{summary['source']}: {summary['ipc']} per class, {kept} images, "
        f"{100 * summary['ratio']:.3g} % of the training images"
    )
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column("trained on")
    for name in ("test accuracy, %", "networks", "epochs"):
        table.add_column(name, justify="right")
    for key, label in _ROWS:
        if result := summary[key]:
            table.add_row(
                label.format(method=summary["method"].upper()),
                _accuracy(result),
                str(result["repeats"]),
                str(result["epochs"]),
            )
    return table


def cost(summary: Mapping[str, Any]) -> str:
    """What condensing took, in one line."""
    return (
        f"{summary['iterations']} iterations in {_duration(summary['seconds'])} "
        f"({summary['seconds_per_iteration']:.2f} s each), "
        f"{summary['peak_rss_bytes'] / 1e9:.1f} GB, {summary['precision']} on {summary['device']}"
    )


def evaluation_table(evaluation: Evaluation) -> Table:
    """Test accuracies by network."""
    title = escape(f"{evaluation.file} tested on {evaluation.data}")
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    for name in ("test accuracy, %", "networks", "epochs"):
        table.add_column(name, justify="right")
    for network, result in evaluation.networks.items():
        table.add_row(network, _accuracy(result), str(result["repeats"]), str(result["epochs"]))
    return table


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
    title = escape(
        f"{estimate.source}, {estimate.method}: {estimate.ipc} per class, "
        f"{estimate.iterations} iterations, {estimate.network} in {estimate.precision}"
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
    return {
        "time to finish": _duration(outlook.total_s),
        "  start": _duration(outlook.start_s),
        "  first iterations, compilation": _seconds(found.first_s),
        "  condensing": _duration(found.condense_s),
        "  evaluation": _duration(found.evaluate_s),
        "  first evaluation, compilation": _seconds(found.evaluate_first_s),
        "an iteration": _seconds(found.iteration_s),
        "  matching, busiest process": _seconds(found.matching_s),
        "  training the queue": _seconds(found.training_s),
    }


def _memory(outlook: Outlook) -> dict[str, str]:
    found = outlook.prediction
    rows = {"memory, all that condense": _size(found.condense_bytes)}
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
    return f"{seconds:.3g} s" if seconds < 60 else _duration(seconds)


def _accuracy(result: Mapping[str, Any]) -> str:
    mean = f"{100 * result['mean']:.1f}"
    return f"{mean} ± {100 * result['std']:.1f}" if result["repeats"] > 1 else mean


def _losses(progress: Progress) -> str:
    parts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in progress.losses.items()]
    if progress.queue.get("matched_age"):
        parts.append(f"matched networks {100 * progress.queue['matched_accuracy']:.0f} %")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
