"""results.json of a comparison, read back and checked; nothing else here knows what is in it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from idm_ray.errors import UserError
from idm_ray.page.fields import Fields
from idm_ray.storage import Location

FILE: Final = "results.json"
_FORMAT: Final = 1
_KIND: Final = "comparison"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedCell:
    """What a method came to.

    Attributes:
        method: its name.
        ipc: images per class; None for all there are.
        network: that the images were condensed with; empty if none was.
        evaluated_on: the network that was trained on them.
        protocol: by whose rules.
        epochs: of each of these networks.
        mean: of all accuracies, a fraction; None if there is none yet.
        std: population deviation of the same.
        count: of networks, of all seeds.
        seeds: of the condensing.
        iterations: updates of the images; None for real ones.
        ratio: share of the training images that is kept, None if nobody knows.
        gain: over as many random images, in fractions; None if there are none to compare with.
        condense_s: that condensing took, None if nobody knows.
        evaluate_s: that evaluation took, None if nobody knows.
        memory_bytes: at most, None if nobody knows.
        folder: of a run that made its images, below that of the comparison; empty if there is none.
    """

    method: str
    ipc: int | None
    network: str
    evaluated_on: str
    protocol: str
    epochs: int
    mean: float | None
    std: float
    count: int
    seeds: Sequence[int]
    iterations: int | None
    ratio: float | None
    gain: float | None
    condense_s: float | None
    evaluate_s: float | None
    memory_bytes: float | None
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Methods beside each other.

    Attributes:
        data: name of the source.
        cells: in the order in which they are to be shown.
        made: how they were made: command, versions, commit and the like, unchecked.
    """

    data: str
    cells: Sequence[ComparedCell]
    made: Mapping[str, Any]


def read_comparison(folder: Location) -> Comparison:
    """Read what a comparison found.

    Raises:
        UserError: the file holds something else or is damaged, or a newer version wrote it.
    """
    fields = Fields.read(folder / FILE)
    kind = fields.text("kind") if fields.has("kind") else "nothing that says what it is"
    if kind != _KIND:
        raise UserError(
            f"expected a comparison in {folder / FILE}, found {kind!r:.60}; name the folder that "
            "idm-ray compare wrote"
        )
    written = fields.count("format")
    if written > _FORMAT:
        raise UserError(
            f"expected a comparison of format {_FORMAT} in {folder / FILE}, found format "
            f"{written}: use a newer idm_ray"
        )
    return Comparison(
        data=fields.text("data"),
        cells=[_cell(cell) for cell in fields.parts("cells")],
        made=dict(fields.part("made").items()) if fields.has("made") else {},
    )


def _cell(fields: Fields) -> ComparedCell:
    seeds = fields.parts("seeds")
    accuracies = [accuracy for seed in seeds for accuracy in seed.numbers("accuracies")]
    mean = fields.number("mean") if fields.has("mean") else None
    return ComparedCell(
        method=fields.text("method"),
        ipc=fields.count("ipc") if fields.has("ipc") else None,
        network=fields.text("network") if fields.has("network") else "",
        evaluated_on=fields.text("evaluated_on"),
        protocol=fields.text("protocol"),
        epochs=fields.count("epochs"),
        mean=mean,
        std=fields.number("std") if fields.has("std") else statistics.pstdev(accuracies or [0.0]),
        count=len(accuracies),
        seeds=[seed.count("seed") for seed in seeds],
        iterations=fields.count("iterations") if fields.has("iterations") else None,
        ratio=_number(fields, "ratio"),
        gain=_number(fields, "gain_over_random"),
        condense_s=_number(fields, "condense_seconds"),
        evaluate_s=_number(fields, "evaluate_seconds"),
        memory_bytes=_number(fields, "peak_rss_bytes"),
        folder=fields.text("folder") if fields.has("folder") else "",
    )


def _number(fields: Fields, name: str) -> float | None:
    return fields.number(name) if fields.has(name) else None
