"""Carries a run out, from wherever it stands to its end, and leaves its folder as it should be."""

import itertools
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from idm_ray import interruption
from idm_ray.checkpoints.saving import Saving
from idm_ray.config import RunConfig
from idm_ray.errors import DataError, NonFiniteLossError, StorageError
from idm_ray.layout import Crew
from idm_ray.methods.catalog import find_method
from idm_ray.monitoring import Export, Monitor
from idm_ray.plan import EvaluationJob, Plan, copy_at
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import (
    Advanced,
    Announcement,
    Committed,
    Evaluated,
    Progress,
    Record,
    RunnerEvent,
)
from idm_ray.report import (
    SUBJECTS,
    PushLog,
    RateMeter,
    commit_line,
    make_card,
    metrics_line,
    pretrained_line,
    pretrained_text,
    summarise,
)
from idm_ray.results.board import Board
from idm_ray.results.card import Card
from idm_ray.results.condensed import replace_card
from idm_ray.results.metrics_log import MetricsLog, read_reports
from idm_ray.results.outcome import title_of
from idm_ray.results.run_folder import RunFolder
from idm_ray.searches.trials import TrialResult
from idm_ray.storage import Location
from idm_ray.workers import Images

# Of the time that a process has when it is told to end; the rest is for what comes after.
_COMMITTING = 0.6


@dataclass(frozen=True, slots=True)
class Entered:
    """The run has a folder, and is called so."""

    run: str


@dataclass(frozen=True, slots=True)
class Started:
    """Condensation or evaluation begins: `total` iterations or networks, of which some are done."""

    what: str
    total: int
    done: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over."""

    folder: Path | Location
    """A path, unless the run lies in an object store."""
    summary: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How the trials of a search stand.

    Attributes:
        trials: that began, in their order.
        total: how many there will be; None if nobody knows.
    """

    trials: tuple[TrialResult, ...]
    total: int | None


Event = (
    Announcement
    | Entered
    | Started
    | Advanced
    | Progress
    | Evaluated
    | Committed
    | Finished
    | Standing
)
Listener = Callable[[Event], None]


class Runner(Protocol):
    """What runs a settled config: `LocalRunner` or `RayRunner`."""

    plan: Plan
    crew: Crew
    """The processes it has."""
    where: str
    """Which processes on what hardware, in one line; also among the notes."""
    processors: tuple[str, ...]
    """What the processes compute on, by name; once each."""
    notes: tuple[str, ...]
    record: Record
    """What the run has to show so far."""

    def enter(self, run: str) -> Export:
        """Learn what the run is called, before all else; who watches it gets what is measured."""

    def restore(self, saving: Saving) -> Iterator[Announcement]:
        """Take up the newest checkpoint that is whole, if there is one; after `enter`."""

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that the plan asks for, or find them kept; before all that follows."""

    def start(self) -> Iterator[Announcement]:
        """Start what condenses."""

    def condense(self) -> Iterator[RunnerEvent]:
        """Run all iterations that are left."""

    def select(self) -> Iterator[RunnerEvent]:
        """Choose real images instead of condensing; what a method of that kind does."""

    def commit(self, *, within_s: float) -> Iterator[Announcement | Committed]:
        """Make a checkpoint of what is finished, now."""

    def adopt(self, images: Images) -> None:
        """Take finished images (N, C, H, W) instead of condensing some."""

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[RunnerEvent]:
        """Train and test networks, but for those that have been already."""

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery."""

    def close(self) -> None:
        """Let go of all resources."""


class Execution:
    """One run, whose runner and folder are there.

    Args:
        runner: ready.
        folder: locked; new, or that of the run that is to go on.
        saving: the run's checkpoints.
        listener: is told what happens.
        name: what the run is called; None: like its folder.
    """

    def __init__(
        self,
        runner: Runner,
        folder: RunFolder,
        saving: Saving,
        listener: Listener,
        *,
        name: str | None = None,
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._saving = saving
        self._listener = listener
        self._name = name or folder.name
        self._monitor = Monitor(runner.enter(self._name))
        self._log: MetricsLog
        self._board: Board | None = None
        self._began = 0.0
        self._knows_last = False

    def run(self) -> Finished:
        """Run to the end; when that is not reached, what is finished is kept.

        Raises:
            NonFiniteLossError: the images diverged.
            ActorLostError: more processes were lost than may be.
            StorageError, OSError: the results could not be written.
        """
        try:
            with interruption.undisguised():
                return self._run()
        except (KeyboardInterrupt, SystemExit):
            self._stop()
            raise
        except NonFiniteLossError:
            raise
        except Exception:
            self._say_how_to_go_on()
            raise
        finally:
            self._monitor.end()
            if self._board is not None:
                self._board.end()

    def _run(self) -> Finished:
        runner, folder = self._runner, self._folder
        self._listener(Entered(self._name))
        self._monitor.start()
        if folder.remote:
            self._say(f"until it is uploaded, the run is in {folder.path}")
        self._log = MetricsLog(folder.metrics_path)
        self._begin_board()
        # Who goes on from a commit reports only what comes after it.
        self._saving.before_marker = self._bring_up_to_date
        self._tell(runner.restore(self._saving))
        runner.record.told = self._log.iteration
        self._knows_last = True
        for report in runner.pretrain():
            self._add_line(pretrained_line(report))
            self._say(pretrained_text(report))
            self._monitor.came_further()
            if runner.plan.selects:
                runner.record.seconds += report.seconds  # part of the method, not of its start
        if runner.plan.selects:
            self._select()
        else:
            self._tell(runner.start())
            self._condense()
        # The result is safe before its evaluation, which takes longer than condensing small sets.
        runner.write(folder.path, make_card(runner.plan, evaluation=None))
        self._publish()
        summary = summarise(runner.plan, runner.record, self._evaluate())
        self._log.flush()
        card = make_card(runner.plan, evaluation=summary["evaluation"])
        self._draw_curves(card)
        if self._board is not None:
            self._board.show(folder.gallery_path, step=summary["iterations"])
            self._board.end()
        replace_card(folder.condensed_path, card)
        folder.write_summary(summary)
        folder.hand_over()
        self._saving.folder.remove()
        finished = Finished(folder.place, summary)
        self._listener(finished)
        return finished

    def _stop(self) -> None:
        """Keep what is finished, while there is little time; told again to stop, do not."""
        try:
            if not self._folder.is_complete:
                self._tell(self._runner.commit(within_s=_COMMITTING * interruption.patience_s()))
        finally:
            self._say_how_to_go_on()
        self._publish()

    def _condense(self) -> None:
        runner = self._runner
        last = self._saving.last
        done = last.iteration if last else 0
        total = runner.plan.config.condense.iterations
        if done:
            self._say(f"going on from iteration {done} of {total}")
        self._began = time.perf_counter() - runner.record.seconds
        self._rate = RateMeter(runner.plan, done, runner.record.seconds)
        self._pushes = PushLog(runner.plan)
        self._monitor.begin(runner.record, planned=total, done=done)
        self._listener(Started("condense", total, done))
        self._tell(runner.condense())

    def _select(self) -> None:
        runner = self._runner
        self._began = time.perf_counter() - runner.record.seconds
        self._listener(Started("select", len(runner.plan.groups)))
        self._tell(runner.select())
        self._monitor.came_further()

    def _evaluate(self) -> dict[str, list[float]]:
        """Accuracies by subject, in the order of the repeats."""
        jobs = final_jobs(self._runner.plan.config)
        self._monitor.begin_evaluation()
        self._listener(Started("evaluate", len(jobs)))
        self._tell(self._runner.evaluate(jobs))
        accuracies: dict[str, list[float]] = {}
        for job in jobs:
            accuracies.setdefault(job.subject, []).append(self._runner.record.evaluated[job])
        return accuracies

    def _begin_board(self) -> None:
        """Start what TensorBoard shows; without it, the run goes on."""
        folder, config = self._folder, self._runner.plan.config
        board = Board(
            folder.board_path,
            networks=Counter((job.subject, job.iteration) for job in all_jobs(config)),
            past=read_reports(folder.metrics_path),
        )
        told = board.begin(folder.config_path.read_text(encoding="utf-8"))
        if told is None:
            self._board = board
        else:
            self._say(told, warning=True)

    def _draw_curves(self, card: Card) -> None:
        from idm_ray.results.curves import write_curves  # noqa: PLC0415 -- matplotlib, at the end

        write_curves(
            self._folder.curves_path,
            read_reports(self._folder.metrics_path),
            title=title_of(card),
            split=self._runner.plan.config.evaluation.eval_split,
        )

    def _tell(self, events: Iterable[RunnerEvent]) -> None:
        """Log what happens and pass it on."""
        for event in events:
            seconds = time.perf_counter() - self._began
            line: dict[str, Any] = {}
            if isinstance(event, Progress):
                for pushed in self._pushes.up_to(event):
                    self._add_line(pushed)
                line = metrics_line(event, seconds) | self._rate.measure(event, seconds)
                for note in event.notes:
                    self._say(note, warning=True)
            elif isinstance(event, Evaluated):
                line = metrics_line(event, seconds)
            elif isinstance(event, Committed):
                line = commit_line(event)
            if line:
                self._add_line(line)
            self._monitor.tell(event, line)
            self._listener(event)

    def _add_line(self, line: Mapping[str, Any]) -> None:
        """Log a report; people are told of a disk that fails, and that it works again."""
        is_new = not self._log.knows(line)
        if told := self._log.add(line):
            self._say(told, warning=True)
        if is_new and self._board is not None:
            self._board.add(line)

    def _publish(self) -> None:
        """Publish what is there; a failure now need not be one at the end."""
        try:
            self._folder.publish()
        except (DataError, StorageError, OSError) as error:
            self._say(f"the upload will be tried again: {error}", warning=True)

    def _bring_up_to_date(self) -> None:
        self._log.flush()
        self._folder.publish()

    def _say(self, text: str, *, warning: bool = False) -> None:
        self._listener(Announcement(text, warning=warning))

    def _say_how_to_go_on(self) -> None:
        last, where = self._saving.last, ""
        if self._knows_last:
            where = f" from iteration {last.iteration}" if last else " from its beginning"
        place = shlex.quote(str(self._folder.place))
        self._say(f"the run goes on{where} with: idm-ray resume {place}")


def marks(config: RunConfig) -> dict[int, tuple[EvaluationJob, ...]]:
    """Evaluations during the run: after which iteration, and which networks."""
    repeats = config.evaluation.repeats
    return {iteration: _jobs("condensed", repeats, iteration) for iteration in copy_at(config)}


def final_jobs(config: RunConfig) -> tuple[EvaluationJob, ...]:
    """Networks to train at the end; the longest first, so that they do not finish last."""
    repeats, iterations = config.evaluation.repeats, config.condense.iterations
    whole = _jobs("whole", 1 if repeats and config.evaluation.whole_epochs else 0, iterations)
    subjects: tuple[str, ...] = SUBJECTS[:1]
    if config.evaluation.baselines == "on":
        compared = find_method(config.condense.method).compared_with
        subjects = (*subjects, *(subject for subject in SUBJECTS if subject in compared))
    return sum((_jobs(subject, repeats, iterations) for subject in subjects), whole)


def all_jobs(config: RunConfig) -> frozenset[EvaluationJob]:
    """Networks to train on the way and at the end."""
    return frozenset((*itertools.chain(*marks(config).values()), *final_jobs(config)))


def _jobs(subject: Any, repeats: int, iteration: int) -> tuple[EvaluationJob, ...]:
    return tuple(
        EvaluationJob(subject=subject, repeat=repeat, iteration=iteration)
        for repeat in range(repeats)
    )
