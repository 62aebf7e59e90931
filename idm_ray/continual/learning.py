"""Continual learning from what is asked to what is found: memories, networks, curves (Fig. 8)."""

import contextlib
import json
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idm_ray.config import RunConfig
from idm_ray.continual.accuracies import Accuracies
from idm_ray.continual.course import Course, Schedule, options_of_runs
from idm_ray.continual.folder import CourseFolder, kept_options
from idm_ray.continual.memories import Memories, put_together
from idm_ray.continual.orders import check_seeds, check_steps
from idm_ray.continual.outcome import Learned, as_csv, as_json, points_of, title_of
from idm_ray.continual.training import Training, make_training
from idm_ray.data.classes import write_classes
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import UserError
from idm_ray.execution import Event, Finished, Listener, Started
from idm_ray.formats.opening import read_set
from idm_ray.methods.catalog import find_method
from idm_ray.progress import Advanced, Announcement
from idm_ray.report import provenance
from idm_ray.resolving import plain_values, resolve, settled
from idm_ray.results.atomic import write_json, write_text
from idm_ray.results.run_folder import next_free
from idm_ray.run import condense
from idm_ray.storage import Location, shown

_COURSE = Course()
_RESULTS = "results.json"


def learn(
    course: Course = _COURSE,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = lambda event: None,
    **options: Any,
) -> Learned:
    """Learn classes step by step from small memories, and say how good that is after each step.

    At each step every method makes a memory of the step's classes, which never changes again. A
    fresh network is trained on the memories so far and tested on all classes so far.

    Args:
        course: steps, class orders and methods.
        out: folder of all files, by path or URI; by default runs/continual-SOURCE-n. A course that
            it holds goes on; nothing of it is computed twice.
        overwrite: replace the course that `out` holds.
        listener: is told what happens, as it happens.
        **options: of the runs that make memories, as `condense` takes them; `repeats` is the number
            of networks for each method, order and step.

    Raises:
        UserError: wrong options, data or resources, or something else in `out`.
        NonFiniteLossError, ActorLostError, StorageError: as `condense`.
    """
    given = options_of_runs(plain_values(options))
    # The settings of evaluation are the same for all; IDM is the method that has no option unused.
    leading = "idm" if "idm" in course.methods else course.methods[0]
    base, info, notes = resolve({**given, "method": leading})
    schedule = Schedule(
        course=course,
        seed=base.condense.seed,
        repeats=base.evaluation.repeats,
        num_classes=info.num_classes,
    )
    check_steps(course.steps, info.num_classes)
    check_seeds(schedule.seed, course.orders)
    place = Location.at(out or next_free("runs", f"continual-{info.name}"))
    with CourseFolder(place) as folder:
        told = _Told(listener)
        learning = _Learning(given, base, info, schedule, folder, told)
        for note in notes:
            told.once(note)
        goes_on = folder.begin(learning.request(), overwrite=overwrite)
        listener(Announcement(f"{'going on in' if goes_on else 'writing to'} {place}"))
        try:
            return learning.run()
        except (KeyboardInterrupt, SystemExit):
            where = shlex.quote(str(place))
            listener(Announcement(f"it goes on by the same command with --out {where}"))
            raise


class _Told:
    """What a listener is told of many runs."""

    def __init__(self, listener: Listener) -> None:
        self.tell = listener
        self._before: set[str] = set()

    def once(self, note: Announcement) -> None:
        """Tell a note, unless the same was told before."""
        if note.text not in self._before:
            self._before.add(note.text)
            self.tell(note)

    def of_a_run(self, event: Event) -> None:
        """Tell what happens in a run: of its notes the warnings, and not how it ended."""
        if not isinstance(event, Announcement):
            if not isinstance(event, Finished):
                self.tell(event)
        elif event.warning:
            self.once(event)


@dataclass(frozen=True, slots=True)
class _Learning:
    """A course under way.

    Attributes:
        given: options of all runs.
        base: settled for the whole data.
        info: of the whole data.
        schedule: all networks.
        folder: of all files.
        told: what the listener is told.
    """

    given: Mapping[str, Any]
    base: RunConfig
    info: DatasetInfo
    schedule: Schedule
    folder: CourseFolder
    told: _Told

    def request(self) -> dict[str, Any]:
        """What is asked, so that whoever goes on can be told what he asks otherwise."""
        methods = {
            method: kept_options(settled({**self.given, "method": method}, self.info).flat())
            for method in self.schedule.course.methods
        }
        return {
            "steps": self.schedule.course.steps,
            "data": {
                "name": self.info.name,
                "source": shown(self.base.data.data),
                "fingerprint": self.info.fingerprint,
            },
            "methods": methods,
        }

    def run(self) -> Learned:
        """Make all memories, train all networks, and write what they came to."""
        condensing_s = self._make_memories()
        accuracies = Accuracies(self.folder.place)
        made = self._train(accuracies)
        evaluation = self.base.evaluation
        jobs = [job for _, _, jobs in self.schedule.groups() for job in jobs]
        learned = Learned(
            folder=str(self.folder.place),
            title=title_of(self.schedule, self.info.name, self.base.condense.ipc),
            protocol={
                "network": self.base.condense.network,
                "protocol": evaluation.protocol,
                "epochs": evaluation.eval_epochs,
                "split": evaluation.eval_split,
            },
            schedule=self.schedule,
            points=points_of(self.schedule, accuracies.found),
            condensing_s=condensing_s,
            training_s=sum(accuracies.found[job].seconds for job in jobs),
            made=made,
        )
        self._write(learned)
        return learned

    def _make_memories(self) -> dict[str, float]:
        """Make the memories that are missing; seconds of condensing by method."""
        seconds = dict.fromkeys(self.schedule.course.methods, 0.0)
        total = len(self.schedule.orders) * self.schedule.course.steps * len(seconds)
        done = 0
        for order in self.schedule.orders:
            for step, labels in enumerate(self.schedule.steps(order), 1):
                for method in seconds:
                    done += 1
                    what = f"memory {done} of {total}: order {order}, step {step}, {method}"
                    seconds[method] += self._make_memory(what, method, order, step, labels)
        return seconds

    def _make_memory(
        self, what: str, method: str, order: int, step: int, labels: tuple[int, ...]
    ) -> float:
        """Make a memory, unless it is there; seconds of condensing."""
        place = self.folder.memory(method, order, step)
        with contextlib.suppress(UserError, ValueError, TypeError, KeyError):
            # Not even the data are opened again.
            return float(json.loads((place / "summary.json").read_bytes())["seconds"])
        self.told.tell(Announcement(what))
        made = condense(
            out=place.address,
            resume="auto",
            listener=self.told.of_a_run,
            **self._of_memory(method, order, labels),
        )
        return float(made.summary["seconds"])

    def _of_memory(self, method: str, order: int, labels: tuple[int, ...]) -> dict[str, Any]:
        """Options of the run that makes the memory of a step.

        Data are recognised by all their classes, so what follows from that is said: a few classes
        have the settings of the whole.
        """
        unused = find_method(method).unused
        return {
            **{name: value for name, value in self.given.items() if name not in unused},
            "method": method,
            "classes": write_classes([self.info.class_names[label] for label in labels]),
            "recipe": self.base.recipe,
            "flips": "on" if self.info.flips else "off",
            "seed": order,
            "repeats": 0,
        }

    def _train(self, accuracies: Accuracies) -> Mapping[str, Any]:
        """Train the networks that are missing; what is needed to make the same numbers again."""
        groups = [
            (method, order, missing)
            for method, order, jobs in self.schedule.groups()
            if (missing := tuple(job for job in jobs if job not in accuracies.found))
        ]
        earlier = self._earlier()
        if not groups and earlier is not None:
            return earlier
        training = make_training(self.base, self.info)
        try:
            for note in training.notes:
                self.told.tell(Announcement(note))
            self._train_with(training, groups, accuracies)
            return provenance(training.plan, training.processors)
        finally:
            training.close()

    def _train_with(
        self,
        training: Training,
        groups: list[tuple[str, int, Any]],
        accuracies: Accuracies,
    ) -> None:
        total = sum(len(jobs) for _, _, jobs in self.schedule.groups())
        done = total - sum(len(jobs) for _, _, jobs in groups)
        self.told.tell(Started("train", total, done))
        shared = ((self._memories(method, order), jobs) for method, order, jobs in groups)
        for found in training.results(shared):
            if isinstance(found, Announcement):
                self.told.tell(found)
                continue
            job, tested = found
            told = accuracies.add(job, tested, self.schedule.seen[job.step - 1])
            if told is not None:
                self.told.tell(Announcement(told, warning=True))
            done += 1
            self.told.tell(Advanced(done, f"{job}: {100 * tested.accuracy:.1f} %"))
        accuracies.flush()

    def _memories(self, method: str, order: int) -> Memories:
        steps = self.schedule.steps(order)
        places = [self.folder.memory(method, order, step) for step in range(1, len(steps) + 1)]
        sets = [read_set((place / "condensed.parquet").address) for place in places]
        return put_together(sets, steps, self.info)

    def _earlier(self) -> Mapping[str, Any] | None:
        """How the networks were made that are there, if it was written down."""
        place = self.folder.place / _RESULTS
        try:
            made: Mapping[str, Any] = json.loads(place.read_bytes())["made"]
        except (UserError, ValueError, TypeError, KeyError):
            return None
        return made

    def _write(self, learned: Learned) -> None:
        """Write numbers and figure."""
        from idm_ray.continual.figure import write_figure  # noqa: PLC0415 -- matplotlib

        with tempfile.TemporaryDirectory() as scratch:
            write_json(Path(scratch, _RESULTS), as_json(learned))
            write_text(Path(scratch, "results.csv"), as_csv(learned.points))
            write_figure(Path(scratch), learned)
            self.folder.put(Location.at(scratch))
