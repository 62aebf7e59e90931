"""Shows a run on the terminal: a progress bar where a person watches, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import rich.filesize
from rich.console import Console
from rich.live import Live
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

from idm_ray.execution import Event, Finished, Standing, Started
from idm_ray.methods.catalog import find_method
from idm_ray.progress import Advanced, Announcement, Committed, Evaluated, Progress
from idm_ray.searches.trials import TrialResult

# Plain lines come at most this often, so that a log of a long run stays readable.
LINE_EVERY_S = 30.0

# Of a live table: title, heading, borders.
_AROUND_ROWS = 8

_ROWS = (
    ("evaluation", "{method}"),
    ("start", "its own start"),
    ("random", "random real images"),
    ("whole", "whole data"),
)


class Terminal:
    """Listens to a run and shows it.

    Args:
        console: where to; by default standard error.
        results: where results go; by default standard output, or `console` if that is given.
        quiet: whether to show nothing but warnings and results.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        results: Console | None = None,
        quiet: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._results = results or console or Console(highlight=False)
        self._quiet = quiet
        self._bar: Bar | None = None
        self._task: TaskID
        self._what, self._total, self._first, self._done = "", 0, 0, 0
        self._began = self._last_line = 0.0
        self._has_committed = False
        self._live: Live | None = None
        self._told_of: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Show one event; that it cannot be shown, on a full disk or to nobody, ends no run."""
        is_vital = isinstance(event, Finished) or (
            isinstance(event, Announcement) and event.warning
        )
        with contextlib.suppress(OSError):
            if is_vital or not self._quiet:
                self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, Announcement):
            style = "yellow" if event.warning else "default"
            text = f"warning: {event.text}" if event.warning else event.text
            self._console.print(escape(text), style=style)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Progress):
            self._advance(event.iteration, _losses(event))
        elif isinstance(event, Advanced):
            self._advance(event.done, event.info)
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, Committed):
            self._committed(event)
        elif isinstance(event, Standing):
            self._standing(event)
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
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, result: Table | str) -> None:
        """Print a result, on standard output."""
        self.close()
        self._results.print(result, soft_wrap=isinstance(result, str))

    def _start(self, event: Started) -> None:
        self.close()
        self._what, self._total = event.what, event.total
        self._first = self._done = event.done
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
        self._task = self._bar.add_task(
            event.what, total=event.total, completed=event.done, info=""
        )
        self._bar.start()

    def _evaluated(self, event: Evaluated) -> None:
        info = f"{event.job.subject} {100 * event.accuracy:.1f} %"
        if self._what == "evaluate":
            self._advance(self._done + 1, info)
        else:
            self._console.print(f"iteration {event.job.iteration}: {info}")

    def _committed(self, event: Committed) -> None:
        """Say what checkpoints take, once: the log of the run has them all."""
        if not self._has_committed:
            self._has_committed = True
            size = rich.filesize.decimal(event.bytes)
            self._console.print(f"checkpoint of iteration {event.iteration}: {size}")

    def _standing(self, event: Standing) -> None:
        """Show all trials where a person watches, and elsewhere each one when it ends."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, transient=True)
                self._live.start()
            self._live.update(standing_table(event, rows=self._console.height - _AROUND_ROWS))
            return
        for trial in event.trials:
            if trial.status != "running" and trial.folder not in self._told_of:
                self._told_of.add(trial.folder)
                count = f"{len(self._told_of)}/{event.total}" if event.total else "trial"
                self._console.print(escape(f"{count}  {_trial_text(trial)}"))

    def _advance(self, done: int, info: str) -> None:
        self._done = done
        now = time.monotonic()
        # Those that were done before cost nothing now; a run may also go back behind them.
        each_s = (now - self._began) / max(1, done - self._first)
        each = f"{each_s:.2f} s each"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, info=f"{each}, {info}")
            return
        if done < self._total and now - self._last_line < LINE_EVERY_S:
            return
        self._last_line = now
        left = duration_text(each_s * (self._total - done))
        self._console.print(f"{self._what} {done}/{self._total}  {each}, {left} left  {info}")


def result_table(summary: Mapping[str, Any]) -> Table:
    """Accuracies, mean and standard deviation with their n, each beside its protocol."""
    kept = summary["ipc"] * summary["num_classes"]
    title = (
        f"{summary['source']}: {summary['ipc']} per class, {kept} images, "
        f"{100 * summary['ratio']:.3g} % of the training images"
    )
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column("trained on")
    for name in (accuracy_heading(summary["evaluation"]), "protocol", "networks", "epochs"):
        table.add_column(name, justify="right")
    for key, label in _ROWS:
        if result := summary[key]:
            table.add_row(
                label.format(method=find_method(summary["method"]).title),
                accuracy_text(result),
                result["protocol"],
                str(result["repeats"]),
                str(result["epochs"]),
            )
    return table


def standing_table(event: Standing, *, rows: int) -> Table:
    """The trials of a search: those under way, and as many of the others as there are rows for."""
    running = [trial for trial in event.trials if trial.status == "running"]
    ended = [trial for trial in event.trials if trial.status != "running"]
    hidden = max(0, len(ended) + len(running) - rows)
    table = Table(title_justify="left", caption_justify="left")
    table.title = f"{len(ended)} of {event.total or '?'} trials ended, {len(running)} under way"
    for name in ("trial", "seed", "status", "iteration", "accuracy, %", "time"):
        table.add_column(name)
    for trial in (*ended[hidden:], *running):
        table.add_row(
            escape(f"{trial.search} {trial.label}"),
            str(trial.seed),
            trial.status,
            str(trial.iterations or ""),
            _accuracy_of(trial),
            duration_text(trial.seconds) if trial.seconds else "",
        )
    return table


def _trial_text(trial: TrialResult) -> str:
    name = f"{trial.search} {trial.label}, seed {trial.seed}"
    if trial.status == "failed":
        return f"{name}: failed: {trial.cause}"
    where = f" at iteration {trial.iterations}" if trial.status == "stopped" else ""
    return f"{name}: {_accuracy_of(trial) or '-'} %, {trial.status}{where}"


def _accuracy_of(trial: TrialResult) -> str:
    if not trial.accuracies:
        return ""
    return f"{100 * sum(trial.accuracies) / len(trial.accuracies):.1f}"


def cost(summary: Mapping[str, Any]) -> str:
    """What condensing took, in one line."""
    took = duration_text(summary["seconds"])
    if each_s := summary["seconds_per_iteration"]:
        what = f"{summary['iterations']} iterations in {took} ({each_s:.2f} s each)"
    else:
        what = f"chosen in {took}"
    return (
        f"{what}, "
        f"{summary['peak_rss_bytes'] / 1e9:.1f} GB, {summary['precision']} on {summary['device']}"
    )


def accuracy_heading(result: Mapping[str, Any]) -> str:
    """Which accuracy it is; that of test images where an earlier version did not say it."""
    return f"{result.get('split', 'test')} accuracy, %"


def accuracy_text(result: Mapping[str, Any]) -> str:
    """Mean and standard deviation in percent."""
    mean = f"{100 * result['mean']:.1f}"
    return f"{mean} ± {100 * result['std']:.1f}" if result["repeats"] > 1 else mean


def _losses(progress: Progress) -> str:
    parts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in progress.losses.items()]
    if progress.queue.get("matched_age"):
        parts.append(f"matched networks {100 * progress.queue['matched_accuracy']:.0f} %")
    return ", ".join(parts)


def duration_text(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
