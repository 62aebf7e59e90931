"""What is done to a run, and when: drawn from a seed, so that it can be done again."""

import contextlib
import subprocess
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tests.chaos.processes import strike, titled

EVALUATION = "an evaluation"
DRIVER = "the driver"
NODE, NODE_AGAIN = "the second node", "the second node again"


@dataclass(frozen=True, slots=True)
class Deed:
    """One end, or the second node's return.

    Attributes:
        who: a name that the run announces, or one of the above.
        iteration: it is done when this one or a later one is reported; after those of the run,
            networks that were evaluated count on.
        amid_recovery: or sooner, as soon as the run goes back because of the deed before.
        delay_s: after that, so that it comes at any moment of what the run does then.
    """

    who: str
    iteration: int
    amid_recovery: bool = False
    delay_s: float = 0.0


def draw_deeds(seed, *, iterations, actors, class_actors, queue, drivers, node):
    """Deeds at increasing iterations, in a random order.

    One more end of the driver comes while the result is evaluated.

    Args:
        seed: of all that is random.
        iterations: of the run.
        actors: of the run; which of them is ended is random.
        class_actors: how often one of them is ended.
        queue: how often the queue is.
        drivers: how often the driver is, before that.
        node: whether the second node is.
    """
    rng = np.random.default_rng(seed)
    whos = ["class"] * class_actors + ["model queue"] * queue + [DRIVER] * drivers + [NODE] * node
    order = [whos[n] for n in rng.permutation(len(whos))]
    at = np.sort(rng.choice(np.arange(1, iterations - 3), len(order), replace=False))
    deeds, before = [], ""
    for who, iteration in zip(order, at.tolist(), strict=True):
        is_actor = who in ("class", "model queue")
        name = f"class actor {rng.integers(actors)}" if who == "class" else who
        deeds.append(
            Deed(
                who=name,
                iteration=iteration,
                amid_recovery=bool(is_actor and before not in ("", name) and rng.random() < 0.3),
                delay_s=float(rng.uniform(0, 0.3)),
            )
        )
        if who == NODE:
            deeds.append(Deed(who=NODE_AGAIN, iteration=iteration + 1))
        before = name if is_actor else ""
    return [*deeds, Deed(who=DRIVER, iteration=iterations + 2)]


@dataclass
class Doer:
    """Does deeds to a run, as its events come.

    Attributes:
        deeds: still to be done, in their order.
        iterations: of the run.
        evaluations: how many evaluations are still to be ended, whenever there is one.
        session: folder of the cluster.
        tell_cluster: removes the second node, or adds it.
        done: what was done, a line each.
        hits: how many of them ended something that lived.
    """

    deeds: deque[Deed]
    iterations: int
    evaluations: int
    session: str
    tell_cluster: object = None
    done: list[str] = field(default_factory=list)
    hits: int = 0
    pids: dict[str, int] = field(default_factory=dict)
    struck: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)
    at: int = 0

    def notice(self, event, driver):
        """Take note of an event of a driver, and do what is due."""
        if driver.process.pid in self.struck:
            return  # it told this before its end
        if event.places:
            self.pids = event.places
        if event.kind == "Progress":
            self.at = event.iteration
        elif event.kind == "Evaluated":
            self.at += self.at >= self.iterations
        comes_on = event.kind in ("Progress", "Evaluated")
        if comes_on and self.evaluations:
            for pid in titled(self.session, "ray::evaluate")[:1]:
                self.evaluations -= self._strike(EVALUATION, pid, event)
        if not self.deeds:
            return
        deed = self.deeds[0]
        is_back = event.text.startswith("going on from iteration")
        is_time = comes_on and self.at >= deed.iteration
        if not is_time and not (deed.amid_recovery and is_back):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.process.wait(timeout=deed.delay_s)
        if self._do(deed, event, driver):
            self.deeds.popleft()

    def _do(self, deed, event, driver):
        if deed.who in (NODE, NODE_AGAIN):
            self.tell_cluster("remove" if deed.who == NODE else "add")
            self.hits += deed.who == NODE
            self._note(deed.who, event)
            return True
        pid = driver.process.pid if deed.who == DRIVER else self.pids.get(deed.who)
        return pid is not None and self._strike(deed.who, pid, event)

    def _strike(self, who, pid, event):
        hit = pid not in self.struck and strike(pid)
        if hit:
            self.struck.add(pid)
            self.hits += 1
            self._note(f"{who} (pid {pid})", event)
        return hit

    def _note(self, what, event):
        self.done.append(f"{time.monotonic() - self.began:6.1f} s: {what} at: {event!s:.100}")
