"""The processes that condense: seated, started where a checkpoint left off, replaced when lost."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from idm_ray.checkpoints.commit import Commit
from idm_ray.config import MachineConfig
from idm_ray.errors import ActorLostError, ResourceError
from idm_ray.layout import Layout, deal
from idm_ray.plan import Plan
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.hosting import Lodging
from idm_ray.runtime.placement import Reservation, Seat, room

# How often to look whether the seats of processes that do not start are still there.
LOOK_EVERY_S = 0.5

# Importing what a process needs takes long on a busy machine, and is no hang before that.
START_WITHIN_S = 120.0

# Whoever is alive tells where it is within so many seconds, also on a busy machine.
ANSWER_WITHIN_S = 30.0


class SeatsLostError(Exception):
    """Processes cannot be replaced, as there is no room for them any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A commit in the object store, by reference.

    Attributes:
        commit: what it is of.
        groups: all of them, for each class actor its own.
        queue: with the weights of its networks; None for one that is before its first iteration.
        pretrained: the set, by number.
    """

    commit: Commit
    groups: tuple[Any, ...]
    queue: Any
    pretrained: tuple[Any, ...]


class Team:
    """Class actors and the model queue.

    Args:
        layout: of the run.
        reserve: finds seats for a layout, or raises ResourceError.
        machine: what the user asked for.
        num_groups: groups of classes.
        shared_queue: handle of a queue that serves other runs, too, and is there already; None:
            the run has its own.
    """

    def __init__(
        self,
        layout: Layout,
        reserve: Callable[[Layout], Reservation | Lodging],
        machine: MachineConfig,
        *,
        num_groups: int,
        shared_queue: Any = None,
    ) -> None:
        self.layout = layout
        self._reserve = reserve
        self._reservation = reserve(layout)
        self._machine = machine
        self._num_groups = num_groups
        self._shared_queue = shared_queue
        self.run = ""
        """What the run is called, in the logs of its processes."""
        self._handles: list[Any] = [None] * len(self.seats)
        self._places: list[actors.Place | None] = [None] * len(self.seats)

    @property
    def seats(self) -> list[Seat]:
        """Where processes sit: class actors and, last, the queue."""
        return self._reservation.seats

    @property
    def class_actors(self) -> list[Any]:
        """Handles of the class actors, as far as they exist."""
        return [handle for handle in self._handles[:-1] if handle is not None]

    @property
    def queue(self) -> Any:
        """Handle of the queue; None while there is none."""
        return self._handles[-1]

    @property
    def processes(self) -> tuple[Any, ...]:
        """Handles of the class actors and, last, of the queue, as far as they exist."""
        return tuple(handle for handle in self._handles if handle is not None)

    def load(self, keeper: Any, commit: Commit) -> Loaded:
        """Read a commit into the object store, for this layout.

        Raises:
            CheckpointError: a file is damaged or missing.
        """
        read_groups = keeper.read_groups.options(num_returns=2)
        calls = [read_groups.remote(commit, own) for own in self.layout.assignment]
        queue = keeper.read_queue.options(num_returns=2).remote(commit)
        read_pretrained = keeper.read_pretrained.options(num_returns=2)
        networks = [read_pretrained.remote(file) for file in commit.pretrained]
        fetch([done for _, done in (*calls, queue, *networks)])
        return Loaded(
            commit=commit,
            groups=tuple(states for states, _ in calls),
            queue=None if commit.queue.is_new else queue[0],
            pretrained=tuple(network for network, _ in networks),
        )

    def start(self, plan: Plan, pretrained: Sequence[Any], loaded: Loaded | None) -> None:
        """Start who is missing, and have everybody begin, or go on where a commit left off.

        Raises:
            ActorLostError: a process was lost meanwhile, or hangs.
            SeatsLostError: there is no room for all of them any more.
        """
        self._seat()
        # One copy of the plan in the object store for all processes.
        shared = ray.put(plan)
        *class_actors, queue = self._handles
        calls = [
            actor.start.remote(shared, own, loaded.groups[n] if loaded else {})
            for n, (actor, own) in enumerate(zip(class_actors, self.layout.assignment, strict=True))
        ]
        if queue is not self._shared_queue:
            saved = loaded.queue if loaded else None
            calls.append(queue.start.remote(shared, *pretrained, saved=saved))
        self._fetch(calls)

    def fetch_images(self) -> tuple[list[Any], int]:
        """What is to be had of the processes at the end.

        Returns:
            References to the images of each class actor; memory that all processes took, in bytes.

        Raises:
            ActorLostError: a process was lost meanwhile, or hangs.
        """
        images = [actor.images.remote() for actor in self.class_actors]
        # Each carries out its calls in their order: whoever answers has images to give.
        peaks = self._fetch([process.peak_memory_bytes.remote() for process in self.processes])
        return images, sum(peaks)

    def describe(self) -> str:
        """Where the class actors and, last, the queue run."""
        places = [place for place in self._places if place is not None]
        names = [*(f"class actor {n}" for n in range(len(places) - 1)), "model queue"]
        nodes = list(dict.fromkeys(place.node for place in places))
        return "; ".join(
            f"{name}: node {nodes.index(place.node)}, pid {place.pid}"
            + (f", GPU {', '.join(map(str, place.gpus))}" if place.gpus else "")
            for name, place in zip(names, places, strict=True)
        )

    @property
    def log_folder(self) -> str:
        """Where a node keeps the logs of its processes; empty where that is not known."""
        logs = (place.log for place in self._places if place is not None)
        return os.path.dirname(next(logs, ""))

    def dismiss_lost(self) -> Iterator[str]:
        """Part with the processes that do not answer; who they were, and where their log is."""
        calls = {
            _place(handle): number
            for number, handle in enumerate(self._handles)
            if handle is not None
        }
        done = set(wait(list(calls), num_returns=len(calls), timeout_s=ANSWER_WITHIN_S))
        for call, number in calls.items():
            try:
                if call in done:
                    fetch(call)
                    continue
            except ActorLostError:
                pass
            yield self._name(number)
            self._end(number)
            self._handles[number] = self._places[number] = None

    def grow(self, num_actors: int) -> int:
        """Take up to so many class actors more, as far as there is room; `start` comes next.

        Returns:
            How many there are more; each gets groups of those that are there.
        """
        added = self._reservation.extend(num_actors)
        self.layout = deal(self.layout, self.layout.actors + added, self._num_groups)
        self._handles[-1:-1] = [None] * added
        self._places[-1:-1] = [None] * added
        return added

    def shrink(self) -> None:
        """Go on with as many class actors as there is room for, fewer than before.

        All processes are ended. `start` comes next, with a commit that was loaded once more.

        Raises:
            ResourceError: there is no room for any.
        """
        self.release()
        fewer = self.layout.actors - 1
        while (fewer := min(fewer, room(self.layout))) > 0:
            layout = deal(self.layout, fewer, self._num_groups)
            try:
                self._reservation = self._reserve(layout)
            except ResourceError:  # somebody else has it, or it went while we waited
                fewer -= 1
                continue
            self.layout = layout
            self._handles = [None] * len(self.seats)
            self._places = [None] * len(self.seats)
            return
        raise ResourceError(
            "the cluster has no room left for a single class actor and the queue: wait until it "
            "has, or give less in --cpus-per-actor or --gpus-per-actor, and resume"
        )

    def release(self) -> None:
        """End the processes and give back what they held."""
        for number in range(len(self._handles)):
            self._end(number)
        self._handles = [None] * len(self._handles)
        self._places = [None] * len(self._places)
        self._reservation.release()

    def _seat(self) -> None:
        """Start a process at every empty seat.

        Raises:
            SeatsLostError: a seat is gone.
            ActorLostError: a process did not start, or hangs.
        """
        kinds = [actors.ClassActor] * (len(self.seats) - 1) + [actors.QueueActor]
        calls = {}
        for number, (kind, seat) in enumerate(zip(kinds, self.seats, strict=True)):
            if self._handles[number] is None:
                is_shared = kind is actors.QueueActor and self._shared_queue is not None
                self._handles[number] = (
                    self._shared_queue
                    if is_shared
                    else kind.options(**seat.options).remote(self.run, self._title(number))
                )
                calls[_place(self._handles[number])] = number
        self._await(list(calls))
        for call, number in calls.items():
            self._places[number] = fetch(call)

    def _await(self, calls: list[Any]) -> None:
        """Wait until all processes that were just started answer."""
        whole_at = began = time.monotonic()
        while calls and len(wait(calls, num_returns=len(calls), timeout_s=LOOK_EVERY_S)) < len(
            calls
        ):
            now = time.monotonic()
            if self._reservation.is_whole:
                whole_at = now
            elif now - whole_at > self._machine.wait_s:
                raise SeatsLostError("a part of the cluster is gone")
            within_s = self._start_within_s
            if within_s is not None and whole_at - began > within_s:
                raise ActorLostError(f"it did not start within {within_s:g} s")

    @property
    def _start_within_s(self) -> float | None:
        hang_s = self._machine.hang_timeout_s
        return max(START_WITHIN_S, hang_s) if hang_s else None

    def _fetch(self, calls: list[Any]) -> list[Any]:
        """Results of a call of each process; whoever does not answer is ended."""
        within_s = self._start_within_s
        done = wait(calls, num_returns=len(calls), timeout_s=within_s)
        late = [number for number, call in enumerate(calls) if call not in done]
        for number in late:
            self._end(number)
        if late:
            raise ActorLostError(f"no answer within {within_s:g} s")
        return list(fetch(calls))

    def _end(self, number: int) -> None:
        """End a process, if there is one that is this run's own."""
        handle = self._handles[number]
        if handle is not None and handle is not self._shared_queue:
            ray.kill(handle)

    def _title(self, number: int) -> str:
        return "the model queue" if number == len(self.seats) - 1 else f"class actor {number}"

    def _name(self, number: int) -> str:
        name = self._title(number)
        place = self._places[number]
        if place is None:
            return name
        log = f", log {place.log}" if place.log else ""
        return f"{name} (pid {place.pid} on node {place.node[:8]}{log})"


def _place(handle: Any) -> Any:
    """Reference to where an actor runs; it tells at once, whatever it is doing."""
    return handle.place.options(concurrency_group=actors.ASIDE).remote()
