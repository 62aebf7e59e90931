"""What a run tells, as measurements for whoever watches many runs: names, and when they change.

Who exports them, and how, is not said here; see `idm_ray.runtime.metrics`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from idm_ray.progress import Committed, Evaluated, Lost, Record, RunnerEvent

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A series of measurements of each run.

    Attributes:
        name: in Prometheus it gets `ray_` in front, and a counter `_total` behind.
        kind: gauge: the last value counts; counter: values are added up.
        text: what it is, with its unit.
        labels: by which its series are told apart, beside the run.
    """

    name: str
    kind: Literal["gauge", "counter"] = "gauge"
    text: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}" + "_total" * (self.kind == "counter")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value of a metric, and of each of its labels."""

    metric: Metric
    value: float
    labels: Mapping[str, str]


Export = Callable[[Measurement], None]

RUNNING: Final = Metric(name="idm_running", text="1 while the run goes on, 0 when it has ended.")
PLANNED: Final = Metric(name="idm_iterations_planned", text="Iterations of the whole run.")
DONE: Final = Metric(name="idm_iterations_done", text="Iterations finished by every class.")
NEWS_TIME: Final = Metric(
    name="idm_progress_timestamp_seconds",
    text="Unix time at which the run last came further: began, iterated, evaluated.",
)
SECONDS: Final = Metric(
    name="idm_seconds",
    kind="counter",
    text="Seconds by part: condensing and evaluation as they pass; computing of the busiest class "
    "actor (matching) and of the queue (training); making checkpoints beside that (checkpoint).",
    labels=("part",),
)
LOST: Final = Metric(
    name="idm_lost_processes",
    text="Processes lost and replaced so far, since the run was last started.",
)
ACCURACY: Final = Metric(
    name="idm_accuracy_ratio",
    text="Accuracy of fresh networks trained on the condensed set, its start, random real images "
    "or the whole data: mean of those evaluated so far at this iteration. condensed_validation: on "
    "the images by which an iterate is selected.",
    labels=("subject",),
)
CHECKPOINT_TIME: Final = Metric(
    name="idm_checkpoint_timestamp_seconds",
    text="Unix time of the last complete checkpoint; before the first, of when condensing began.",
)
CHECKPOINT_BYTES: Final = Metric(
    name="idm_checkpoint_bytes", text="Size of the last checkpoint, in bytes."
)
_PARTS: Final = ("matching", "training")
_DATA_WAITING: Final = Metric(
    name="idm_data_waiting_ratio",
    text="Share of the computing time that was spent waiting for real images.",
    labels=("part",),
)
_DECODED: Final = Metric(
    name="idm_images_decoded", kind="counter", text="Real images decoded.", labels=("part",)
)
_BYTES_READ: Final = Metric(
    name="idm_bytes_read", kind="counter", text="Bytes read from shards.", labels=("part",)
)

# What is in a line of metrics.jsonl, by its name there.
_OF_A_LINE: Final = {
    "images_per_s": Metric(
        name="idm_images_per_second", text="Images through networks per second."
    ),
    "matching_loss": Metric(name="idm_matching_loss", text="Matching loss, sum over classes."),
    "regularization": Metric(
        name="idm_regularization", text="Class-aware regularization, sum over classes."
    ),
    "waiting": Metric(
        name="idm_waiting_ratio", text="Share of the time that class actors did not compute."
    ),
    "queue_size": Metric(name="idm_queue_size", text="Networks in the model queue."),
    "matched_age": Metric(
        name="idm_matched_age_steps", text="Training steps of the matched networks, mean."
    ),
    "matched_accuracy": Metric(
        name="idm_matched_accuracy_ratio", text="Training accuracy of the matched networks, mean."
    ),
    "train_accuracy": Metric(
        name="idm_training_accuracy_ratio", text="Accuracy of the queue's training batches."
    ),
    "train_loss": Metric(name="idm_training_loss", text="Loss of the queue's training batches."),
}
# The same by part, before which the name in the line has the part's.
_OF_A_PART: Final = {
    "data_waiting": _DATA_WAITING,
    "images_decoded": _DECODED,
    "bytes_read": _BYTES_READ,
}

METRICS: Final = (
    RUNNING,
    PLANNED,
    DONE,
    NEWS_TIME,
    SECONDS,
    LOST,
    ACCURACY,
    CHECKPOINT_TIME,
    CHECKPOINT_BYTES,
    *_OF_A_LINE.values(),
    *_OF_A_PART.values(),
)
"""All metrics of a run."""


class Monitor:
    """Turns what a run tells into measurements.

    Args:
        export: takes them.
        clock: seconds since 1970.
    """

    def __init__(self, export: Export, *, clock: Callable[[], float] = time.time) -> None:
        self._export = export
        self._clock = clock
        self._record = Record()
        self._busy, self._condensed_s = self._record.busy, self._record.seconds
        self._evaluated: dict[tuple[str, int], list[float]] = {}
        self._evaluating_since: float | None = None
        self._has_failed = False

    def start(self) -> None:
        """The run has entered its folder."""
        self._measure(RUNNING, 1)
        self._measure(LOST, 0)
        self._measure(CHECKPOINT_TIME, self._clock())
        self.came_further()

    def begin(self, record: Record, *, planned: int, done: int) -> None:
        """Condensing begins, or goes on.

        Args:
            record: of the run, which changes meanwhile.
            planned: iterations of the whole run.
            done: of them, before.
        """
        self._record, self._busy, self._condensed_s = record, record.busy, record.seconds
        self._measure(CHECKPOINT_TIME, self._clock())  # the first one is due from now on
        self._measure(PLANNED, planned)
        self._measure(DONE, done)
        self.came_further()

    def begin_evaluation(self) -> None:
        """Condensing is over."""
        self._evaluating_since = self._clock()
        self.came_further()

    def end(self) -> None:
        """The run has ended, well or not."""
        self._measure(RUNNING, 0)

    def came_further(self) -> None:
        """Something is done that is told of in no other way."""
        self._measure(NEWS_TIME, self._clock())

    def tell(self, event: RunnerEvent, line: Mapping[str, Any]) -> None:
        """Take what a run tells.

        Args:
            event: that it told.
            line: of metrics.jsonl about it; empty if there is none.
        """
        if isinstance(event, Committed):
            self._measure(CHECKPOINT_TIME, self._clock())
            self._measure(CHECKPOINT_BYTES, event.bytes)
            self._measure(SECONDS, event.seconds, part="checkpoint")
        elif isinstance(event, Lost):
            self._measure(LOST, event.so_far)
        elif isinstance(event, Evaluated):
            self._evaluate(event)
        elif line:
            self._advance(line)

    def _advance(self, line: Mapping[str, Any]) -> None:
        self.came_further()
        self._measure(DONE, line["iteration"])
        for name, metric in _OF_A_LINE.items():
            if name in line:
                self._measure(metric, line[name])
        for part in _PARTS:
            for name, metric in _OF_A_PART.items():
                self._measure(metric, line.get(f"{part}_{name}", 0), part=part)
        busy, before = self._record.busy, self._busy
        self._measure(SECONDS, self._record.seconds - self._condensed_s, part="condensing")
        self._measure(SECONDS, busy.matching_s - before.matching_s, part="matching")
        self._measure(SECONDS, busy.training_s - before.training_s, part="training")
        self._busy, self._condensed_s = busy, self._record.seconds

    def _evaluate(self, event: Evaluated) -> None:
        self.came_further()
        if self._evaluating_since is not None:
            now = self._clock()
            self._measure(SECONDS, now - self._evaluating_since, part="evaluation")
            self._evaluating_since = now
        job = event.job
        found = self._evaluated.setdefault((job.series, job.iteration), [])
        found.append(event.accuracy)
        self._measure(ACCURACY, sum(found) / len(found), subject=job.series)

    def _measure(self, metric: Metric, value: float, **labels: str) -> None:
        # A part that took no time has no series yet, and a counter is never counted back.
        if self._has_failed or (metric.kind == "counter" and value <= 0):
            return
        try:
            self._export(Measurement(metric, float(value), labels))
        except Exception as error:
            # Whatever it is, the run is worth more than its measurements.
            self._has_failed = True
            _LOGGER.warning("measurements are not exported any more: %r", error)
