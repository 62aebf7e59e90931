"""How a run is laid out: groups of classes, actors, threads, work. Pure decisions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from idm_ray.algorithm.expansion import tile_size
from idm_ray.algorithm.model_start import pretraining_steps
from idm_ray.algorithm.networks import default_network
from idm_ray.building import check_network
from idm_ray.checks import wrong
from idm_ray.config import AutoFloat, CondenseConfig, MachineConfig, RunConfig
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method, rounds_of
from idm_ray.methods.method import Matching, Rounds, Selecting
from idm_ray.network_names import one_name

# Pixels that go through a network at once: their activations are kept for the backward pass, about
# 0.4 GB for ConvNet-3 in bfloat16.
PIXELS_PER_PASS = 512 * 32 * 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Who computes what.

    Attributes:
        actors: class actors; the queue is one more process.
        cpus_per_actor: what the cluster reserves for each of them.
        gpus_per_actor: the same for GPUs, for the queue and for each evaluation too.
        threads: of each process that computes.
        assignment: numbers of the groups that each actor owns.
        notes: what was decided differently from what was asked, a line each.
    """

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int
    assignment: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one process that condenses has to do: match some classes, train the queue, or both."""

    classes: int = 0
    queue: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Crew:
    """The processes of a run and what they share, as far as time and memory depend on it.

    Attributes:
        shares: of the processes that condense.
        at_once: how many processes can compute at full speed at the same time.
        evaluations: networks that are evaluated at a time.
        gpus: that the processes share; 0 if they compute on CPUs.
        driver: processes that only watch.
    """

    shares: tuple[Share, ...]
    at_once: float
    evaluations: int
    gpus: int = 0
    driver: int = 0


def crew_of_one(num_classes: int, *, gpus: int) -> Crew:
    """One process that does everything in turn, on a GPU or without."""
    everything = Share(classes=num_classes, queue=True)
    return Crew(shares=(everything,), at_once=1, evaluations=1, gpus=gpus)


def crew_of(layout: Layout, groups: Sequence[Sequence[int]], *, cpus: float, gpus: float) -> Crew:
    """The processes of a run on a cluster.

    Args:
        layout: of the run.
        groups: labels of the classes of each group.
        cpus: that the processes can really use.
        gpus: of the cluster.
    """
    shares = [
        Share(classes=sum(len(groups[number]) for number in owned)) for owned in layout.assignment
    ]
    on_gpus = layout.gpus_per_actor > 0
    at_once = gpus / max(1.0, layout.gpus_per_actor) if on_gpus else cpus / layout.threads
    return Crew(
        shares=(*shares, Share(queue=True)),
        at_once=max(1.0, at_once),
        evaluations=max(1, int(at_once)),
        gpus=int(gpus) if on_gpus else 0,
        driver=1,
    )


def settle(config: RunConfig, image_shape: Sequence[int], num_classes: int) -> RunConfig:
    """Fill in what depends on the data alone: network, groups, images per pass, rounds; check them.

    Raises:
        UserError: a depth or a partition that the image size does not allow, or more classes for a
            model than there are.
    """
    bound = config.queue.pretrained_classes
    if isinstance(bound, int) and bound > num_classes:
        raise wrong("pretrained_classes", bound, f"at most {num_classes}, the classes of the data")
    selects = isinstance(find_method(config.condense.method).how, Selecting)
    if not selects and not config.condense.iterations:
        raise wrong("iterations", 0, f"at least 1 for method {config.condense.method}")
    name = one_name(config.condense.network)
    if name == "auto":
        name = default_network(image_shape)
    images_per_pass = _images_per_pass(config, image_shape)
    size = config.condense.classes_per_group
    if size == "auto":
        size = _default_group_size(config, images_per_pass, num_classes)
    try:
        check_network(name, image_shape, num_classes)
        tile_size(min(image_shape[1:]), config.condense.partition)
    except ValueError as error:
        raise UserError(str(error)) from error
    rounds = default_rounds(config.condense)
    return config.replace(
        network=name,
        classes_per_group=min(size, num_classes),
        images_per_pass=images_per_pass,
        **(_rounds_options(config.condense, rounds) if rounds else {}),
    )


def default_rounds(condense: CondenseConfig) -> Rounds | None:
    """What `auto` means for the rounds of an iteration; None for a method that has none."""
    how = find_method(condense.method).how
    if not isinstance(how, Matching) or how.rounds is None:
        return None
    return how.rounds(condense.ipc)


def _rounds_options(condense: CondenseConfig, rounds: Rounds) -> dict[str, int]:
    options = {"outer_rounds": rounds.outer, "inner_epochs": rounds.inner}
    return {n: auto if (v := getattr(condense, n)) == "auto" else v for n, auto in options.items()}


def check_memory(
    config: RunConfig, image_shape: Sequence[int], num_classes: int, memory_bytes: int
) -> None:
    """Refuse more synthetic images than this machine can hold.

    The driver holds all of them once, as it writes them. Who does everything in one process holds
    their gradients, velocities and enlarged tiles as well.

    Raises:
        UserError: there is not enough memory.
    """
    ipc = config.condense.ipc
    copies = 8 if config.machine.local else 1
    needed = 4.0 * num_classes * ipc * math.prod(image_shape) * copies
    if needed > memory_bytes:
        raise UserError(
            f"ipc {ipc} takes {needed / 1e9:.0f} GB here for {num_classes} classes of "
            f"{'x'.join(map(str, image_shape))}, of {memory_bytes / 1e9:.0f} GB that this machine "
            "has: use fewer images per class, or smaller ones"
        )


def _images_per_pass(config: RunConfig, image_shape: Sequence[int]) -> int:
    if config.machine.images_per_pass == "auto":  # nosec B105 # of images
        return max(1, PIXELS_PER_PASS // (image_shape[1] * image_shape[2]))
    return config.machine.images_per_pass


def _default_group_size(config: RunConfig, images_per_pass: int, num_classes: int) -> int:
    """Classes per group: at least 5 groups, and no more tiles than go through in one pass."""
    tiles_per_class = config.condense.ipc * config.condense.partition**2
    return max(1, min(num_classes // 5, images_per_pass // tiles_per_class))


def cut_groups(num_classes: int, classes_per_group: int) -> tuple[tuple[int, ...], ...]:
    """Consecutive classes, `classes_per_group` at a time; the last group may be smaller."""
    labels = range(num_classes)
    return tuple(
        tuple(labels[first : first + classes_per_group])
        for first in range(0, num_classes, classes_per_group)
    )


def lay_out(
    machine: MachineConfig, *, num_groups: int, cpus: float, gpus: float, cpus_of_a_node: float
) -> Layout:
    """Lay a run out over a cluster.

    Args:
        machine: what was asked for.
        num_groups: groups to share among the actors.
        cpus: CPUs of the cluster.
        gpus: GPUs of the cluster.
        cpus_of_a_node: CPUs of its smallest node that has any.

    Returns:
        With `auto`: one actor less than there are GPUs, or CPUs, since the queue trains beside
        them; GPUs are shared in equal parts where they do not suffice; a node's cores are
        shared among as many processes as may come to sit on it.
    """
    use_gpus = gpus > 0 and machine.gpus_per_actor != 0
    spare = max(1, int(gpus if use_gpus else cpus) - 1)
    wanted = spare if machine.actors == "auto" else machine.actors
    actors = min(wanted, num_groups)
    return Layout(
        actors=actors,
        cpus_per_actor=_given(machine.cpus_per_actor, share_of(cpus, actors)),
        gpus_per_actor=_given(
            machine.gpus_per_actor, share_of(gpus, actors + 1) if use_gpus else 0.0
        ),
        threads=int(_given(machine.threads, max(1, int(cpus_of_a_node / (actors + 1))))),
        assignment=_assignment(actors, num_groups),
        notes=(_cut_note(wanted, num_groups),) if machine.actors not in ("auto", actors) else (),
    )


def deal(layout: Layout, actors: int, num_groups: int) -> Layout:
    """The same layout with all groups dealt to so many actors, each with what it had before."""
    actors = min(actors, num_groups)
    return replace(layout, actors=actors, assignment=_assignment(actors, num_groups), notes=())


def _assignment(actors: int, num_groups: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(actor, num_groups, actors)) for actor in range(actors))


def _given(value: AutoFloat, automatic: float) -> float:
    return automatic if value == "auto" else value


def condensing_work(
    config: RunConfig, image_shape: Sequence[int], train_counts: Sequence[int]
) -> float:
    """Pixels through networks while condensing, with a backward pass counted thrice.

    Evaluation does not count: it must not decide about the arithmetic of the images.
    """
    images = matching_work(config, train_counts) + training_work(config, len(train_counts))
    images = config.condense.iterations * images + pretraining_work(config, train_counts)
    return images * image_shape[1] * image_shape[2]


def matching_work(config: RunConfig, train_counts: Sequence[int]) -> float:
    """Images through networks to match all classes in one iteration, counted likewise.

    Of gradients of gradients, which are never compiled, only the real images' side is counted.
    """
    condense = config.condense
    real = sum(min(condense.batch_real, count) for count in train_counts)
    how = find_method(condense.method).how
    if isinstance(how, Matching) and how.second_order:
        return float(3 * real * condense.num_matched_models * rounds_of(condense))
    tiles = len(train_counts) * condense.ipc * condense.partition**2
    return float((real + 3 * tiles) * condense.num_matched_models)


def training_work(config: RunConfig, num_classes: int) -> float:
    """Images through networks to train them, mean of an iteration, counted likewise."""
    condense, queue = config.condense, config.queue
    if (rounds := rounds_of(condense)) > 1:
        epochs = (rounds - 1) * int(condense.inner_epochs) * condense.num_matched_models
        return 3.0 * epochs * num_classes * condense.ipc
    if not queue.queue_size:
        return 0.0
    steps = queue.num_trained_models * queue.train_steps / queue.train_interval
    return 3 * steps * queue.batch_train


def pretraining_work(config: RunConfig, train_counts: Sequence[int]) -> float:
    """Images through networks to train the pretrained ones, counted likewise; kept ones too.

    Whether they are kept must not decide about the arithmetic.
    """
    queue = config.queue
    steps = queue.pretrained * pretraining_steps(queue, sum(train_counts))
    return 3.0 * steps * queue.batch_train


def evaluation_work(config: RunConfig, image_shape: Sequence[int], num_classes: int) -> float:
    """Pixels through networks in evaluation alone, counted likewise."""
    evaluation = config.evaluation
    tiles = num_classes * config.condense.ipc * config.condense.partition**2
    steps = evaluation.repeats * evaluation.eval_epochs
    return 3.0 * steps * tiles * image_shape[1] * image_shape[2]


def share_of(units: float, processes: int) -> float:
    """The part of one unit that each process gets: a whole one, or an equal part of a single one.

    A process cannot have parts of two GPUs, so what counts is how many share one. Rounded down to
    what Ray can count.
    """
    sharing = math.ceil(processes / max(units, 1))
    return int(10_000 / sharing) / 10_000


def _cut_note(wanted: int, num_groups: int) -> str:
    return (
        f"{wanted} actors asked for, but there are {num_groups} groups of classes: using "
        f"{num_groups} (a smaller --classes-per-group makes more groups)"
    )
