"""What the driver looks out for while others compute: processes that hang, and slow ones."""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import ray

from idm_ray.errors import ActorLostError
from idm_ray.pace import stragglers

# Computing by which a class actor is judged slow: enough that hiccups do not matter.
JUDGED_S = 30.0

# How often calls that do not end are looked at.
LOOK_S = 5.0


class Watch:
    """Ends processes that hang.

    Args:
        timeout_s: after so long without finishing a call; 0: never.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: dict[Any, float] = {}

    @property
    def look_s(self) -> float | None:
        """How often to look; None: no need."""
        return min(self._timeout_s, LOOK_S) if self._timeout_s else None

    def look(self, awaited: Mapping[Any, tuple[str, Any]], done: Collection[Any]) -> None:
        """Look who is still waited for.

        Args:
            awaited: calls under way, each with the name and the handle of its process.
            done: those of them that are over.

        Raises:
            ActorLostError: a process hung and was ended.
        """
        now = time.monotonic()
        busy = {id(handle) for call, (_, handle) in awaited.items() if call in done}
        self._since = {
            call: self._since.get(call, now) if id(handle) not in busy else now
            for call, (_, handle) in awaited.items()
            if call not in done
        }
        for call, since in self._since.items():
            if self._timeout_s and now - since > self._timeout_s:
                name, handle = awaited[call]
                # One that several runs share, which Ray may start again, is not this run's to end.
                ray.kill(handle, no_restart=False)
                raise ActorLostError(
                    f"{name} finished nothing for {now - since:.0f} s, longer than "
                    f"--hang-timeout-s {self._timeout_s:g}, and was ended"
                )


class Paces:
    """Knows how fast class actors are, and tells of those that turn out to be slow.

    Args:
        num_actors: class actors, numbered from 0.
    """

    def __init__(self, num_actors: int) -> None:
        self._seconds, self._classes = [0.0] * num_actors, [0] * num_actors
        """What each computed since it was judged: seconds; classes times iterations."""
        self._slow: set[int] = set()

    def add(self, number: int, seconds: float, classes: int) -> None:
        """Take note that an actor computed so long, for so many classes times iterations."""
        self._seconds[number] += seconds
        self._classes[number] += classes

    def news(self) -> Iterator[str]:
        """What people should know: class actors that are slow, each once."""
        if min(self._seconds) < JUDGED_S:
            return
        paces = [s / max(1, n) for s, n in zip(self._seconds, self._classes, strict=True)]
        self._seconds, self._classes = [0.0] * len(paces), [0] * len(paces)
        for number, factor in stragglers(paces).items():
            if number not in self._slow:
                self._slow.add(number)
                yield (
                    f"class actor {number} takes {factor:.1f} times as long for a class as the "
                    "others, and the run goes at its pace"
                )
