"""Carries a comparison out: makes the sets that are missing, and trains networks on each."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import yaml

from idm_ray.comparison.cells import Cell, Made
from idm_ray.comparison.examinations import Examinations, Examined, Kind
from idm_ray.comparison.files import write_results
from idm_ray.comparison.request import WHOLE, Request, SetRequest
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import NonFiniteLossError, UserError
from idm_ray.evaluation import condensed_jobs, prepare, train_and_test
from idm_ray.execution import Listener
from idm_ray.layout import settle
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Announcement
from idm_ray.report import made_by
from idm_ray.results.run_files import holds_run
from idm_ray.run import absolute, condense, differing_settings, resolve, settled
from idm_ray.storage import Location
from idm_ray.workers import Images

REQUEST: Final = "comparison.yaml"
"""Of what data a comparison is, in its folder."""
SETS: Final = "sets"
"""Folder of its sets' runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What a comparison found.

    Attributes:
        folder: with all files.
        data: name of the data set.
        cells: of its table.
    """

    folder: Location
    data: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _Set:
    """A set to make, with the settled config of its run."""

    asked: SetRequest
    config: RunConfig


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
        asked = list(request.sets())
        first = asked[0].run_options() if asked else dict(request.options)
        self._base, self._info, self._notes = resolve(first)
        self._sets = [_Set(one, settled(one.run_options(), self._info)) for one in asked]
        self._cells: dict[tuple[Any, ...], Cell] = {}
        self._lay_out()
        self._check_folder()
        self._examinations = Examinations(folder)

    def run(self) -> Compared:
        """Make what is missing; the tables are written anew whenever something is found."""
        for note in (*self._notes, Announcement(f"writing to {self._folder}")):
            self._listener(note)
        content = {"data": self._info.name, "fingerprint": self._info.fingerprint}
        with (self._folder / REQUEST).atomic_write() as file:
            file.write(yaml.safe_dump(content, sort_keys=False).encode())
        self._write()
        for number, one in enumerate(self._sets, start=1):
            text = f"set {number} of {len(self._sets)}: {one.asked.name}"
            self._listener(Announcement(text))
            if self._make(one):
                for network in self._networks(one.config):
                    self._examine(one, network)
        for network in self._whole_networks():
            self._examine_whole(network)
        return Compared(
            folder=self._folder, data=self._info.name, cells=tuple(self._cells.values())
        )

    def _lay_out(self) -> None:
        """The cells, still empty; networks that cannot take the images are refused."""
        told, count = self._request.evaluation(), sum(self._info.train_counts)
        for one in self._sets:
            for network in self._networks(one.config):
                self._settled(one.config, network)
                cell = Cell(
                    method=one.asked.method,
                    ipc=one.asked.ipc,
                    ratio=one.asked.ipc * self._info.num_classes / count,
                    network=one.config.condense.network,
                    evaluated_on=network,
                    protocol=told["protocol"],
                    epochs=told["eval_epochs"],
                )
                self._cells.setdefault(_key(one, network), cell)
        for network in self._whole_networks():
            self._cells[WHOLE, network] = Cell(
                method=WHOLE,
                ipc=None,
                ratio=1.0,
                network=None,
                evaluated_on=network,
                protocol=told["protocol"],
                epochs=self._request.whole_epochs,
            )

    def _check_folder(self) -> None:
        if holds_run(self._folder):
            raise UserError(
                f"expected a folder for a comparison, found a run in {self._folder}; choose "
                "another --out"
            )
        place = self._folder / REQUEST
        stored = yaml.safe_load(place.read_bytes()) if place.exists() else None
        if stored is not None and stored["fingerprint"] != self._info.fingerprint:
            raise UserError(
                f"the comparison in {self._folder} is of other images: {stored['data']} "
                f"({stored['fingerprint'][:12]}) there, {self._info.name} "
                f"({self._info.fingerprint[:12]}) now; choose another --out"
            )
        for one in self._sets:
            found = differing_settings(self._place(one), one.config)
            if found:
                raise UserError(
                    f"the comparison in {self._folder} has a set {one.asked.name} of other "
                    f"settings: {'; '.join(found)}; ask for those, or choose another --out"
                )

    def _networks(self, config: RunConfig) -> tuple[str, ...]:
        return self._request.networks or (config.condense.network,)

    def _whole_networks(self) -> tuple[str, ...]:
        return self._networks(self._base) if self._request.has_whole else ()

    def _settled(self, config: RunConfig, network: str) -> RunConfig:
        return settle(
            config.replace(network=network), self._info.image_shape, self._info.num_classes
        )

    def _place(self, one: _Set) -> Location:
        return self._folder / f"{SETS}/{one.asked.name}"

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
            self._listener(Announcement(f"{one.asked.name} failed: {cause}", warning=True))
            return False
        summary = finished.summary
        made = Made(
            seed=one.asked.seed,
            iterations=summary["iterations"],
            seconds=summary["seconds"],
            peak_memory_bytes=summary["peak_rss_bytes"],
            folder=f"{SETS}/{one.asked.name}",
        )
        self._change(one, lambda cell: dataclasses.replace(cell, made=(*cell.made, made)))
        return True

    def _examine(self, one: _Set, network: str) -> None:
        """Train and test the networks of a set that are missing."""
        asked = self._request.evaluation(one.asked.repeats)
        prepared = prepare(
            self._place(one).address,
            one.config.data.data,
            {**asked, "seed": one.asked.seed},
            (network,),
        )
        config = prepared.networks[network]
        kind = _kind(_digest(prepared.images), config)
        repeats = range(config.evaluation.repeats)
        jobs = condensed_jobs(self._examinations.missing(kind, repeats))
        self._train(config, prepared.info, prepared.images, kind, jobs)
        self._fill(_key(one, network), one.asked.seed, kind, repeats)

    def _examine_whole(self, network: str) -> None:
        """Train and test a network on all real images, unless that is known."""
        asked = {**self._request.evaluation(), "whole_epochs": self._request.whole_epochs}
        base = self._base.replace(**asked, seed=0, ipc=1, partition=1)
        config = absolute(self._settled(base, network))
        kind = _kind(f"whole {self._info.fingerprint}", config)
        kind = dataclasses.replace(kind, epochs=self._request.whole_epochs)
        jobs = [
            EvaluationJob(subject="whole", repeat=repeat, iteration=0)
            for repeat in self._examinations.missing(kind, range(1))
        ]
        self._listener(Announcement(f"whole data: {network}"))
        none = np.zeros((0, *self._info.image_shape), np.float32)
        self._train(config, self._info, none, kind, jobs)
        self._fill((WHOLE, network), 0, kind, range(1))

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
        for event in train_and_test(config, info, images, jobs, self._listener):
            # Networks beside each other share the time: each gets what passed since the last.
            now = time.perf_counter()
            examined = Examined(accuracy=event.accuracy, seconds=now - began)
            self._examinations.add(kind, event.job.repeat, examined)
            began = now

    def _fill(self, key: tuple[Any, ...], seed: int, kind: Kind, repeats: Sequence[int]) -> None:
        known = self._examinations.known(kind)
        found = {repeat: known[repeat] for repeat in repeats}
        self._cells[key] = self._cells[key].with_networks(seed, found)
        self._write()

    def _change(self, one: _Set, change: Callable[[Cell], Cell]) -> None:
        for network in self._networks(one.config):
            self._cells[_key(one, network)] = change(self._cells[_key(one, network)])
        self._write()

    def _write(self) -> None:
        write_results(self._folder, self._info.name, tuple(self._cells.values()), made_by())


def _key(one: _Set, network: str) -> tuple[Any, ...]:
    """Of a cell."""
    return one.asked.method, one.asked.ipc, one.config.condense.network, network


def _kind(subject: str, config: RunConfig) -> Kind:
    return Kind(
        subject=subject,
        network=config.condense.network,
        protocol=config.evaluation.protocol,
        epochs=config.evaluation.eval_epochs,
        seed=config.condense.seed,
    )


def _digest(images: Images) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
