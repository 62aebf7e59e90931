"""Carries a comparison out: makes the sets that are missing, and trains networks on each."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from idm_ray.algorithm.augment import allowed_operations
from idm_ray.algorithm.protocols import named_protocol
from idm_ray.comparison.cells import Cell, Made
from idm_ray.comparison.examinations import Examinations, Examined, Kind
from idm_ray.comparison.files import read_cells, write_results
from idm_ray.comparison.folder import begin, check_folder
from idm_ray.comparison.request import WHOLE, Request, SetRequest
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import NonFiniteLossError, UserError
from idm_ray.evaluation import condensed_jobs, prepare, train_and_test
from idm_ray.execution import Event, Listener, Started
from idm_ray.layout import settle
from idm_ray.methods.catalog import find_method
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Announcement
from idm_ray.report import made_by
from idm_ray.resolving import absolute, resolve, settled
from idm_ray.results.run_lock import RunLock
from idm_ray.run import condense, differing_settings
from idm_ray.storage import Location
from idm_ray.workers import Images

SETS: Final = "sets"
"""Folder of its sets' runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        folder: with all files.
        data: name of the data set.
        cells: of what was asked for now; the files have those of earlier requests, too.
    """

    folder: Location
    data: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _Set:
    """A set to make, with the settled config of its run."""

    asked: SetRequest
    config: RunConfig

    @property
    def network(self) -> str | None:
        """That it is condensed with; None if the method needs none."""
        needs = find_method(self.asked.method).needs_network
        return self.config.condense.network if needs else None

    @property
    def name(self) -> str:
        """Of its folder."""
        network = f"-{self.network.replace('/', '-')}" if self.network else ""
        return f"{self.asked.method}-ipc{self.asked.ipc}{network}-seed{self.asked.seed}"


class Comparison:
    """A comparison that was checked: what can be refused is refused before anything is computed.

    Args:
        request: what is asked for.
        folder: of all files.
        listener: is told what happens.

    Raises:
        UserError: wrong options or data, or sets of other settings in the folder.
    """

    def __init__(self, request: Request, folder: Location, listener: Listener) -> None:
        self._request, self._folder, self._listener = request, folder, listener
        # Random images stand for the data alone: no method's settings are in their config.
        plain = dataclasses.replace(request, methods=("random",), overrides={})
        self._base, self._info, self._notes = resolve(next(plain.sets()).run_options())
        self._sets = self._settled_sets()
        self._trained = self._settled_networks()
        check_folder(folder, self._base, self._info)
        for one in self._sets:
            self._check_set(one)
        self._examinations = Examinations(folder)
        self._earlier = {cell.key: cell for cell in read_cells(folder)}
        self._cells = {cell.key: self._known(cell) for cell in self._lay_out()}

    def run(self) -> Compared:
        """Make what is missing; the tables are written anew whenever something is found."""
        with self._alone():
            for note in (*self._notes, Announcement(f"writing to {self._folder}")):
                self._listener(note)
            begin(self._folder, self._base, self._info)
            self._write()
            for number, one in enumerate(self._sets, start=1):
                self._listener(Announcement(f"set {number} of {len(self._sets)}: {one.name}"))
                if self._make(one):
                    for network in self._networks(one):
                        self._examine(one, network)
            if self._request.has_whole:
                for network in self._trained:
                    self._examine_whole(network)
        cells = tuple(self._cells.values())
        return Compared(folder=self._folder, data=self._info.name, cells=cells)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile, where it is a local one."""
        path = self._folder.local
        if path is None:
            yield
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"expected a folder to write to at {path}, found: {error.strerror}; choose "
                "another --out"
            ) from error
        lock = RunLock(path)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _settled_sets(self) -> list[_Set]:
        """Each set once, whatever its network is called."""
        found = [_Set(one, settled(one.run_options(), self._info)) for one in self._request.sets()]
        return list({one.name: one for one in found}.values())

    def _settled_networks(self) -> tuple[str, ...]:
        """The networks that are trained: columns of the table; by their one names."""
        own = [one.network for one in self._sets if one.network is not None]
        asked = self._request.networks or own or [self._base.condense.network]
        names = (self._settled(self._base, name).condense.network for name in asked)
        return tuple(dict.fromkeys(names))

    def _check_set(self, one: _Set) -> None:
        found = differing_settings(self._place(one), one.config)
        if found:
            raise UserError(
                f"the comparison in {self._folder} has a set {one.name} of other settings: "
                f"{'; '.join(found)}; ask for those, or choose another --out"
            )

    def _lay_out(self) -> Iterator[Cell]:
        """The cells that are asked for, still empty."""
        told, count = self._request.evaluation(), sum(self._info.train_counts)
        for one in self._sets:
            for network in self._networks(one):
                yield Cell(
                    method=one.asked.method,
                    ipc=one.asked.ipc,
                    ratio=one.asked.ipc * self._info.num_classes / count,
                    network=one.network,
                    evaluated_on=network,
                    protocol=told["protocol"],
                    epochs=told["eval_epochs"],
                )
        for network in self._trained if self._request.has_whole else ():
            yield Cell(
                method=WHOLE,
                ipc=None,
                ratio=1.0,
                network=None,
                evaluated_on=network,
                protocol=told["protocol"],
                epochs=self._request.whole_epochs,
            )

    def _known(self, cell: Cell) -> Cell:
        """What an earlier request has found of a cell, if it is the same."""
        earlier = self._earlier.get(cell.key, cell)
        return earlier if earlier.epochs == cell.epochs else cell

    def _networks(self, one: _Set) -> tuple[str, ...]:
        """To train on a set: all that were asked for, or the one that it was condensed with."""
        if self._request.networks or one.network is None:
            return self._trained
        return (one.network,)

    def _settled(self, config: RunConfig, network: str) -> RunConfig:
        return settle(
            config.replace(network=network), self._info.image_shape, self._info.num_classes
        )

    def _place(self, one: _Set) -> Location:
        return self._folder / f"{SETS}/{one.name}"

    def _make(self, one: _Set) -> bool:
        """Make a set, or find it there; whether there is one."""
        try:
            finished = condense(
                out=self._place(one).address,
                resume="auto",
                listener=self._listener,
                **one.asked.run_options(),
            )
        except NonFiniteLossError as error:  # the other cells can still be had
            cause = str(error)
            self._change(one, lambda cell: cell.without(one.asked.seed, cause))
            self._listener(Announcement(f"{one.name} failed: {cause}", warning=True))
            return False
        summary = finished.summary
        made = Made(
            iterations=summary["iterations"],
            seconds=summary["seconds"],
            peak_memory_bytes=summary["peak_rss_bytes"],
            folder=f"{SETS}/{one.name}",
        )
        self._change(one, lambda cell: cell.with_set(one.asked.seed, made))
        return True

    def _examine(self, one: _Set, network: str) -> None:
        """Train and test the networks of a set that are missing."""
        prepared = prepare(
            self._place(one).address,
            one.config.data.data,
            {**self._request.evaluation(one.asked.repeats), "seed": one.asked.seed},
            (network,),
        )
        config = prepared.networks[network]
        kind = _kind(_digest(prepared.images), config, prepared.info)
        jobs = condensed_jobs(self._examinations.missing(kind, range(config.evaluation.repeats)))
        self._train(config, prepared.info, prepared.images, kind, jobs)
        self._fill(self._cell_of(one, network), one.asked.seed, kind)

    def _examine_whole(self, network: str) -> None:
        """Train and test a network on all real images, unless that is known."""
        asked = {**self._request.evaluation(), "whole_epochs": self._request.whole_epochs}
        base = self._base.replace(**asked, seed=0, ipc=1, partition=1)
        config = absolute(self._settled(base, network))
        kind = dataclasses.replace(
            _kind(f"whole {self._info.fingerprint}", config, self._info),
            epochs=self._request.whole_epochs,
        )
        jobs = [
            EvaluationJob(subject="whole", repeat=repeat, iteration=0)
            for repeat in self._examinations.missing(kind, range(1))
        ]
        self._listener(Announcement(f"whole data: {network}"))
        none = np.zeros((0, *self._info.image_shape), np.float32)
        self._train(config, self._info, none, kind, jobs)
        (key,) = [
            cell.key
            for cell in self._cells.values()
            if (cell.method, cell.evaluated_on) == (WHOLE, network)
        ]
        self._fill(key, 0, kind)

    def _train(
        self,
        config: RunConfig,
        info: DatasetInfo,
        images: Images,
        kind: Kind,
        jobs: Sequence[EvaluationJob],
    ) -> None:
        if not jobs:
            return
        began = time.perf_counter()

        def tell(event: Event) -> None:
            nonlocal began
            if isinstance(event, Started):  # what comes before is no training
                began = time.perf_counter()
            self._listener(event)

        for event in train_and_test(config, info, images, jobs, tell):
            # Networks beside each other share the time: each gets what passed since the last.
            now = time.perf_counter()
            examined = Examined(accuracy=event.accuracy, seconds=now - began)
            self._examinations.add(kind, event.job.repeat, examined)
            began = now

    def _fill(self, key: tuple[Any, ...], seed: int, kind: Kind) -> None:
        found = self._examinations.known(kind)
        self._cells[key] = self._cells[key].with_networks(seed, found)
        self._write()

    def _change(self, one: _Set, change: Callable[[Cell], Cell]) -> None:
        for network in self._networks(one):
            key = self._cell_of(one, network)
            self._cells[key] = change(self._cells[key])
        self._write()

    def _cell_of(self, one: _Set, network: str) -> tuple[Any, ...]:
        """The key of the cell that a set and a network belong to."""
        (key,) = [
            cell.key
            for cell in self._cells.values()
            if (cell.method, cell.ipc, cell.network, cell.evaluated_on)
            == (one.asked.method, one.asked.ipc, one.network, network)
        ]
        return key

    def _write(self) -> None:
        cells = {**self._earlier, **self._cells}
        write_results(self._folder, self._info.name, tuple(cells.values()), made_by())


def _kind(subject: str, config: RunConfig, info: DatasetInfo) -> Kind:
    """What decides the accuracy of a network that is trained on something."""
    evaluation, machine = config.evaluation, config.machine
    protocol = named_protocol(
        evaluation.protocol,
        evaluation.eval_epochs,
        lr_net=config.queue.lr_net,
        batch_train=config.queue.batch_train,
        operations=allowed_operations(info.flips),
    )
    settings = {
        "protocol": dataclasses.asdict(protocol),
        "partition": config.condense.partition,
        "normalised by": (info.mean, info.std),
        "tested on": (info.fingerprint, evaluation.eval_split),
        "arithmetic": (machine.device, machine.precision, machine.compile, machine.threads),
        "at once": machine.images_per_pass,
    }
    return Kind(
        subject=subject,
        network=config.condense.network,
        protocol=evaluation.protocol,
        epochs=evaluation.eval_epochs,
        seed=config.condense.seed,
        settings=hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32],
    )


def _digest(images: Images) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
