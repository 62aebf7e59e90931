"""Runs a config on Ray: decides who does what next, and moves references, never tensors.

The queue runs ahead of the class actors by a bounded window; every actor goes through the sequence
of snapshots at its own pace. Nothing here touches the numbers: they are those of `idm_ray.local`.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from idm_ray.algorithm.numerics import Numerics
from idm_ray.checkpoints.saving import Saving
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import ActorLostError
from idm_ray.layout import lay_out
from idm_ray.machine import peak_memory_bytes
from idm_ray.monitoring import Export
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import (
    Announcement,
    Committed,
    Evaluated,
    Record,
    RunnerEvent,
)
from idm_ray.results.card import Card
from idm_ray.runtime import actors
from idm_ray.runtime.commits import Commits
from idm_ray.runtime.connection import InputLostError, fetch
from idm_ray.runtime.copies import Copies, gathered
from idm_ray.runtime.evaluations import Evaluations, LostEvaluation
from idm_ray.runtime.failures import Failures, TooManyLostError
from idm_ray.runtime.hosting import Host
from idm_ray.runtime.keeper import Keeper, beside_the_driver
from idm_ray.runtime.loop import loop_from
from idm_ray.runtime.metrics import Exporter
from idm_ray.runtime.placement import may_have_room
from idm_ray.runtime.pretraining import pretrained_set
from idm_ray.runtime.seating import seat
from idm_ray.runtime.selection import Selection
from idm_ray.runtime.surroundings import resources
from idm_ray.runtime.team import Loaded, SeatsLostError
from idm_ray.workers import Images

# The last commit of a run is waited for: evaluation can take very long.
LAST_COMMIT_WITHIN_S = 600.0


class RayRunner:
    """Runs a settled config on a Ray cluster.

    Args:
        config: settled.
        info: of the data.
        marks: iterations after which a copy of the images is evaluated, with the jobs for each.
        pixels: through networks, by which compiling is decided.
        numerics: of the run that is to go on; None to decide.
        host: gives the run room and, it may be, a queue; it then pauses where copies are
            evaluated, as whoever hosts it may end it there. None: it finds room for itself.

    Raises:
        ResourceError: the cluster cannot give what the config asks for.
        DataError: a node cannot see the data.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        marks: dict[int, tuple[EvaluationJob, ...]],
        *,
        pixels: float,
        numerics: Numerics | None = None,
        host: Host | None = None,
    ) -> None:
        seated = seat(config, info, pixels=pixels, numerics=numerics, host=host)
        self.plan = Plan(config=config, info=info, numerics=seated.numerics)
        self.crew = seated.crew
        self.processors, self.where, self.notes = seated.processors, seated.where, seated.notes
        self.record = Record()
        self._team = seated.team
        self._has_own_queue = host is None or host.queue is None
        self._evaluations = Evaluations(self.plan, self._team.layout)
        self._copies = Copies(marks, self._evaluations, pauses=host is not None)
        self._failures = Failures(config.machine.max_failures)
        self._images: Any = None
        self._iterates: dict[int, Any] = {}
        self._finished = 0
        """Iterations that every class actor has reported."""
        self._pretrained: dict[int, Any] = {}
        self._loaded: Loaded | None = None
        self._logs = ""
        self._saving: Saving
        self._keeper: Keeper | None = None
        self._commits: Commits | None = None

    @property
    def processes(self) -> tuple[Any, ...]:
        """Handles of the class actors and, last, of the queue, while they exist."""
        return self._team.processes

    def enter(self, run: str) -> Export:
        """Learn what the run is called; its measurements go where Ray's own do."""
        self._team.run = run
        return Exporter(run)

    def restore(self, saving: Saving) -> Iterator[Announcement]:
        """Take up the newest checkpoint that is whole, if there is one; before all else."""
        self._saving = saving
        self._keeper = Keeper(saving.folder)
        yield from self._go_back()
        self.record = Record.of(saving.last)
        if self._loaded is not None:
            self._pretrained = dict(enumerate(self._loaded.pretrained))

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that the plan asks for on real images, if there are to be any."""
        if self._pretrained or not self._has_own_queue:
            return  # they came with the checkpoint, or the shared queue has them
        for lesson, reports, networks in pretrained_set(self.plan, self._team.seats):
            for look, network in enumerate(networks):
                # On the driver's node: no other node's end takes it away.
                kept, held = beside_the_driver(actors.hold).remote(network)
                fetch(held)
                self._pretrained[lesson.member + look] = kept
            yield from reports

    def start(self) -> Iterator[Announcement]:
        """Start the class actors and the queue; returns when they are ready.

        `restore` and `pretrain` come first.
        """
        yield from self._start_team()

    def condense(self) -> Iterator[RunnerEvent]:
        """Run all iterations that are left; `start` comes first.

        Processes that are lost are replaced, and everybody goes back to the last checkpoint.
        """
        began = time.perf_counter() - self.record.seconds
        while True:
            try:
                if (yield from self._iterate(began)):
                    break
                yield from self._go_on_with_more()
            except TooManyLostError:
                raise
            except ActorLostError as loss:
                yield from self._recover(loss)
        # Evaluations may have waited for the resources that are given back here.
        self._team.release()
        yield from self._results()

    def select(self) -> Iterator[RunnerEvent]:
        """Choose real images, each group of classes at the next seat that is free."""
        began = time.perf_counter()
        selection = Selection(self.plan, self._team.seats, self._networks)
        yield from selection.run()
        self._images, are_there = gathered(selection.images)
        fetch(are_there)
        self._team.release()
        self.record.seconds += time.perf_counter() - began
        self.record.peak_memory_bytes = selection.peak_memory_bytes

    def commit(self, *, within_s: float) -> Iterator[Announcement | Committed]:
        """Make a checkpoint now, each group as it was after its last finished iteration."""
        if self._commits is not None:
            yield from self._commits.keep_now(self._finished, self.record.tally, within_s=within_s)

    def adopt(self, images: Images) -> None:
        """Take finished images instead of condensing some."""
        self._team.release()
        self._images = ray.put(images)

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[RunnerEvent]:
        """Train and test networks, as many at a time as there is room for."""
        known = [job for job in jobs if job in self.record.evaluated]
        for job in known:
            yield Evaluated(job=job, accuracy=self.record.evaluated[job])
        left = [job for job in jobs if job not in known]
        for iteration in dict.fromkeys(job.iteration for job in left):
            of_iterate = [job for job in left if job.iteration == iteration]
            self._evaluations.submit(of_iterate, self._images_of(iteration))
        yield from self._results()

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery from a task beside this process."""
        task = beside_the_driver(actors.write_results)
        fetch(task.remote(folder.absolute(), self._images, card))

    def write_selected(self, folder: Path, card: Card) -> None:
        """Write the iterate that the card is of from a task beside this process."""
        images = self._images_of(card.iterations)
        self._iterates = {card.iterations: images}  # the others are not needed any more
        task = beside_the_driver(actors.write_selected)
        fetch(task.remote(folder.absolute(), images, card))

    def close(self) -> None:
        """End everything of this run that still runs; again is harmless."""
        self._evaluations.cancel()
        self._team.release()
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None

    @property
    def _networks(self) -> list[Any]:
        """References to the pretrained set."""
        return [self._pretrained[member] for member in sorted(self._pretrained)]

    def _images_of(self, iteration: int) -> Any:
        """Reference to a copy, as it is kept to be selected, or else to the finished images."""
        return self._iterates[iteration] if iteration in self.plan.copy_at else self._images

    def _iterate(self, began: float) -> Generator[RunnerEvent, None, bool]:
        """Go through the iterations; whether all are finished, or there is room to grow."""
        loop, collector = loop_from(self._saving.last, self.plan, self._team, told=self.record.told)
        assert self._keeper is not None, "restore comes first"
        self._commits = Commits(
            self._saving,
            self._team,
            self._keeper,
            self._networks,
            hang_timeout_s=self.plan.config.machine.hang_timeout_s,
        )
        reported, self._finished = time.perf_counter(), loop.iteration
        busy = self.record.busy
        while not loop.complete:
            until = self._copies.until(self.plan.config.condense.iterations, self.record.evaluated)
            loop.step(until)
            self._finished = loop.iteration
            self.record.seconds = time.perf_counter() - began
            self.record.busy = busy + loop.busy
            for progress in collector.due(time.perf_counter() - reported):
                reported = time.perf_counter()
                yield progress
                self.record.told = max(self.record.told, progress.iteration)
            for text in loop.news():
                yield Announcement(text, warning=True)
            paused = time.perf_counter()
            yield from self._evaluate_copies(loop.iteration, wait_for=loop.pauses_at(until))
            began += time.perf_counter() - paused
            for event in self._commits.keep(loop.iteration, self.record.tally):
                yield event
                if isinstance(event, Committed) and self._can_grow():
                    return False
        yield from self._end(began)
        return True

    def _end(self, began: float) -> Iterator[RunnerEvent]:
        """What the actors still have to give when all iterations are finished."""
        self._hand_copies_on(self.plan.config.condense.iterations)
        if self.plan.config.evaluation.select == "validation":
            self._iterates = self._copies.to_select_from(self._team)
        images, peak = self._team.fetch_images()
        self._images, are_there = gathered(images)
        fetch(are_there)
        peak += peak_memory_bytes()
        self.record.seconds = time.perf_counter() - began
        self.record.peak_memory_bytes = max(self.record.peak_memory_bytes, peak)
        yield from self.commit(within_s=LAST_COMMIT_WITHIN_S)

    def _evaluate_copies(self, iteration: int, *, wait_for: bool) -> Iterator[RunnerEvent]:
        """Have copies evaluated that every actor has made by now.

        Args:
            iteration: that every actor has come to.
            wait_for: for the results, or only take those that are there.

        Raises:
            ActorLostError: copies are lost, and so is whoever made them.
        """
        self._hand_copies_on(iteration)
        for event in self._evaluations.finished(wait_for=wait_for):
            if isinstance(event, LostEvaluation) and isinstance(event.loss, InputLostError):
                raise event.loss
            # A lost one is submitted again.
            yield self._noted(event)

    def _hand_copies_on(self, iteration: int) -> None:
        self._copies.hand_on(self._team, iteration, self.record.evaluated)

    def _results(self) -> Iterator[RunnerEvent]:
        """All results that are still to come, when nobody condenses any more."""
        for event in self._evaluations.finished(wait_for=True):
            yield self._noted(event)
            if isinstance(event, LostEvaluation):
                self._evaluations.submit([event.job], event.images)
            elif self._commits is not None:
                yield from self._commits.keep_results(self.record.tally)

    def _noted(self, event: Evaluated | LostEvaluation) -> RunnerEvent:
        if isinstance(event, LostEvaluation):
            logs = f" (logs of its node in {self._logs})" if self._logs else ""
            what = f"evaluation {event.job.repeat} of {event.job.subject}{logs}"
            return self._failures.count([what], event.loss)
        self.record.evaluated[event.job] = event.accuracy
        return event

    def _go_back(self) -> Iterator[Announcement]:
        assert self._keeper is not None, "restore comes first"
        load = partial(self._team.load, self._keeper.process)
        self._loaded, problems = self._saving.go_back(load)
        for problem in problems:
            yield Announcement(problem, warning=True)

    def _start_team(self) -> Iterator[Announcement]:
        while True:
            try:
                self._team.start(self.plan, self._networks, self._loaded)
            except ActorLostError as loss:
                yield self._failures.count(list(self._team.dismiss_lost()), loss)
            except SeatsLostError as lack:
                self._team.shrink()
                actors_ = self._team.layout.actors
                yield Announcement(f"{lack}: going on with {actors_} class actors", warning=True)
                yield from self._go_back()
            else:
                self._loaded = None  # they have it
                self._copies.start_over()
                self._logs = self._team.log_folder
                yield Announcement(self._team.describe())
                return

    def _recover(self, loss: ActorLostError) -> Iterator[Announcement]:
        """Replace who was lost, and have everybody go back to the last checkpoint."""
        self._drop_commits()
        self._evaluations.cancel()
        yield self._failures.count(list(self._team.dismiss_lost()), loss)
        yield from self._go_back()
        at = self._saving.last.iteration if self._saving.last else 0
        yield Announcement(f"going on from iteration {at}")
        yield from self._start_team()

    def _drop_commits(self) -> None:
        if self._commits is not None:
            self._commits.give_up()
            self._commits = None

    def _can_grow(self) -> bool:
        """Whether the run has more class actors from now on, which are to be started."""
        layout = self._team.layout
        # What the user wants, or what fits the cluster as it is now.
        machine, num_groups = self.plan.config.machine, len(self.plan.groups)
        wanted = lay_out(machine, num_groups=num_groups, **resources()).actors
        more = wanted - layout.actors
        return more > 0 and may_have_room(layout) and self._team.grow(more) > 0

    def _go_on_with_more(self) -> Iterator[Announcement]:
        """Deal the groups to more class actors, from the checkpoint that was just made."""
        self._drop_commits()
        num_actors = self._team.layout.actors
        yield Announcement(f"the cluster has room for more: {num_actors} class actors from now on")
        yield from self._go_back()
        yield from self._start_team()
