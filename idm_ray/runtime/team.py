"""The processes that condense: seated, started where a checkpoint left off, replaced when lost."""

from collections.abc import Iterator, Sequence
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
from idm_ray.runtime.placement import Reservation, room

# A process that is placed imports what it needs within so many seconds, also on a busy machine.
START_WITHIN_S = 120.0

# Whoever is alive tells where it is within so many seconds.
ANSWER_WITHIN_S = 10.0


class SeatsLostError(Exception):
    """Processes cannot be replaced, as there is no room for them any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A commit in the object store, by reference.

    Attributes:
        commit: what it is of.
        groups: all of them, for each class actor its own.
        queue: with the weights of its networks.
    """

    commit: Commit
    groups: tuple[Any, ...]
    queue: Any


class Team:
    """Class actors and the model queue.

    Args:
        layout: of the run.
        reservation: that the layout fits.
        machine: what the user asked for.
        num_groups: groups of classes.
    """

    def __init__(
        self, layout: Layout, reservation: Reservation, machine: MachineConfig, *, num_groups: int
    ) -> None:
        self.layout = layout
        self._reservation = reservation
        self._machine = machine
        self._num_groups = num_groups
        self.seats = list(reservation.seats())
        self._handles: list[Any] = [None] * len(self.seats)
        self._places: list[actors.Place | None] = [None] * len(self.seats)

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
        fetch([done for _, done in (*calls, queue)])
        return Loaded(commit=commit, groups=tuple(states for states, _ in calls), queue=queue[0])

    def start(self, plan: Plan, pretrained: Sequence[Any], loaded: Loaded | None) -> None:
        """Start who is missing, and have everybody begin, or go on where a commit left off.

        Raises:
            ActorLostError: a process was lost meanwhile.
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
        calls.append(
            queue.start.remote(shared, *pretrained, saved=loaded.queue if loaded else None)
        )
        fetch(calls)

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
            ray.kill(self._handles[number])
            self._handles[number] = None
            yield self._name(number)

    def resize(self, num_actors: int) -> None:
        """Give all groups to so many class actors; all processes are started anew.

        Raises:
            ResourceError: there is no room for them.
        """
        self.release()
        layout = deal(self.layout, num_actors, self._num_groups)
        self._reservation = Reservation(layout, wait_s=self._machine.wait_s, may_grow=True)
        self.layout = layout
        self.seats = list(self._reservation.seats())
        self._handles = [None] * len(self.seats)
        self._places = [None] * len(self.seats)

    def shrink(self) -> None:
        """Go on with as many class actors as there is room for, fewer than before.

        Raises:
            ResourceError: there is no room for any.
        """
        fewer = min(self.layout.actors - 1, room(self.layout))
        if fewer < 1:
            self.release()
            raise ResourceError(
                "the cluster has no room left for a single class actor and the queue: wait until "
                "it has, or give less in --cpus-per-actor or --gpus-per-actor, and resume"
            )
        self.resize(fewer)

    def release(self) -> None:
        """End the processes and give back what they held."""
        for process in self.processes:
            ray.kill(process)
        self._handles = [None] * len(self._handles)
        self._reservation.release()

    def _seat(self) -> None:
        """Start a process at every empty seat.

        Raises:
            SeatsLostError: a seat is gone.
            ActorLostError: a process did not start.
        """
        kinds = [actors.ClassActor] * (len(self.seats) - 1) + [actors.QueueActor]
        calls = {}
        for number, (kind, seat) in enumerate(zip(kinds, self.seats, strict=True)):
            if self._handles[number] is None:
                self._handles[number] = kind.options(**seat.options).remote()
                calls[_place(self._handles[number])] = number
        if calls and not self._reservation.is_whole(self._machine.wait_s):
            raise SeatsLostError("a part of the cluster is gone")
        within_s = START_WITHIN_S
        done = wait(list(calls), num_returns=len(calls), timeout_s=within_s) if calls else []
        for call in done:
            self._places[calls[call]] = fetch(call)
        if len(done) < len(calls):
            raise SeatsLostError(f"{len(calls) - len(done)} processes found no place")

    def _name(self, number: int) -> str:
        is_queue = number == len(self.seats) - 1
        name = "the model queue" if is_queue else f"class actor {number}"
        place = self._places[number]
        if place is None:
            return name
        log = f", log {place.log}" if place.log else ""
        return f"{name} (pid {place.pid} on node {place.node[:8]}{log})"


def _place(handle: Any) -> Any:
    """Reference to where an actor runs; it tells at once, whatever it is doing."""
    return handle.place.options(concurrency_group=actors.ASIDE).remote()
