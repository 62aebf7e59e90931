"""Seats a run on a cluster: who sits where, what computes there, and which arithmetic all share."""

from dataclasses import dataclass
from functools import partial

from idm_ray.algorithm.numerics import Numerics
from idm_ray.arithmetic import check_numerics, choose_numerics, compiling_notes, compiling_pays
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import Crew, crew_of, cut_groups, lay_out
from idm_ray.runtime.connection import connect
from idm_ray.runtime.hosting import Host
from idm_ray.runtime.placement import Reservation
from idm_ray.runtime.surroundings import describe, inspect, look_everywhere, resources
from idm_ray.runtime.team import Team


@dataclass(frozen=True, kw_only=True, slots=True)
class Seated:
    """A run that has its seats.

    Attributes:
        team: sits there, but is not started.
        numerics: that all its processes can do.
        crew: the processes, for what is predicted of them.
        processors: what they compute on, by name; once each.
        where: which processes on what hardware, in one line.
        notes: what there is to tell people, that line among it.
    """

    team: Team
    numerics: Numerics
    crew: Crew
    processors: tuple[str, ...]
    where: str
    notes: tuple[str, ...]


def seat(
    config: RunConfig,
    info: DatasetInfo,
    *,
    pixels: float,
    numerics: Numerics | None = None,
    host: Host | None = None,
) -> Seated:
    """Find seats for a run, and look around at each of them.

    Args:
        config: settled.
        info: of the data.
        pixels: through networks, by which compiling is decided.
        numerics: of the run that is to go on; None to decide.
        host: gives the run room; None: it finds room for itself.

    Raises:
        ResourceError: the cluster cannot give what the config asks for.
        DataError: a node cannot see the data.
        UserError: the processes found cannot compute as the run has to.
    """
    machine = config.machine
    own_cluster = connect()
    groups = cut_groups(info.num_classes, int(config.condense.classes_per_group))
    there = resources()
    if host is None:
        look_everywhere(config.data)
        layout = lay_out(machine, num_groups=len(groups), **there)
    else:
        layout, numerics = host.layout, numerics or host.numerics
    own_room = partial(
        Reservation,
        placement=machine.placement,
        wait_s=machine.wait_s,
        may_grow=not own_cluster,
    )
    team = Team(
        layout,
        own_room if host is None else host.lodge,
        machine,
        num_groups=len(groups),
        shared_queue=host and host.queue,
    )
    try:
        compiling = compiling_pays(machine, pixels)
        found = inspect(team.seats, config, info, compiling=compiling)
        numerics = numerics or choose_numerics(
            machine, found, threads=layout.threads, pixels=pixels
        )
        check_numerics(numerics, found)
    except BaseException:
        team.release()
        raise
    where = describe(layout, found, own_cluster)
    return Seated(
        team=team,
        numerics=numerics,
        crew=crew_of(layout, groups, cpus=there["cpus"], gpus=there["gpus"]),
        processors=tuple(sorted({place.name for place in found})),
        where=where,
        notes=(*layout.notes, where, *compiling_notes(machine, found, pixels=pixels)),
    )
