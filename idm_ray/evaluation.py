"""Evaluation of a condensed set's file: fresh networks trained on it, tested on real images."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from idm_ray.config import PROTOCOLS, CondenseConfig, QueueConfig, RunConfig
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.errors import UserError
from idm_ray.execution import Listener, Started
from idm_ray.formats.opening import read_set
from idm_ray.layout import evaluation_work, settle
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Announcement, Evaluated
from idm_ray.report import statistics
from idm_ray.resolving import absolute, plain_values
from idm_ray.results.card import Card
from idm_ray.run import make_runner
from idm_ray.storage import shown
from idm_ray.workers import Images

# What made the set, and how its networks are trained: as its card says.
_OF_THE_SET = {"recipe"}.union(
    field.name
    for part in (CondenseConfig, QueueConfig)
    for field in dataclasses.fields(part)
    if field.name != "seed"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How good a condensed set is.

    Attributes:
        file: the set, without a password.
        data: the source of the images that it was tested on, the same way.
        networks: for each network its protocol and the split it was tested on, number of repeats,
            mean and population standard deviation of the accuracy, and the accuracies, as
            fractions.
    """

    file: str
    data: str
    networks: dict[str, dict[str, Any]]


def evaluate(
    file: str | PathLike[str],
    *,
    data: str | PathLike[str],
    networks: str | Sequence[str] = (),
    listener: Listener = lambda event: None,
    **options: Any,
) -> Evaluation:
    """Train fresh networks on a condensed set and test them on real images.

    Args:
        file: a condensed set, as for `load`.
        data: source of the images to test on, those of `eval_split`; its classes and size must be
            the set's.
        networks: names of networks, or one text with commas between them; by default the network
            that the set was condensed with.
        listener: is told what happens, as it happens.
        **options: options of `idm_ray.config` for data, evaluation and machine, and `seed`.

    Raises:
        CondensedSetError: the file is damaged or no condensed set.
        UserError: wrong options, or data that do not fit the set.

    >>> found = idm_ray.evaluate("runs/demo", data="digits", repeats=2, local=True)
    >>> sorted(found.networks["convnet-2"])
    ['accuracies', 'epochs', 'mean', 'protocol', 'repeats', 'split', 'std']
    """
    prepared = prepare(file, fspath(data), plain_values(options), networks)
    found: dict[str, dict[str, Any]] = {}
    for name, config in prepared.networks.items():
        jobs = condensed_jobs(range(config.evaluation.repeats))
        accuracies = {
            event.job: event.accuracy
            for event in train_and_test(config, prepared.info, prepared.images, jobs, listener)
        }
        found[name] = told_protocol(config) | statistics([accuracies[job] for job in jobs])
    return Evaluation(file=shown(file), data=shown(data), networks=found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A condensed set, ready to be evaluated.

    Attributes:
        card: of the set.
        images: (N, C, H, W), normalised, unexpanded, sorted by class.
        info: of the data to test on.
        networks: the settled config of each network, by the name that it was asked for by.
    """

    card: Card
    images: Images
    info: DatasetInfo
    networks: Mapping[str, RunConfig]


def prepare(
    file: str | PathLike[str],
    data: str,
    options: Mapping[str, Any],
    networks: str | Sequence[str] = (),
) -> Prepared:
    """Read a condensed set and check it against the data; arguments and errors as `evaluate`."""
    stored = read_set(file)
    config = _config_of(stored.card, data, options)
    info = _info_for(stored.card, open_dataset(config.data).info)
    config = absolute(config)
    if isinstance(networks, str):
        networks = [name.strip() for name in networks.split(",")]
    settled = {
        name: settle(config.replace(network=name), info.image_shape, info.num_classes)
        for name in networks or (stored.card.network,)
    }
    return Prepared(card=stored.card, images=stored.images, info=info, networks=settled)


def condensed_jobs(repeats: Iterable[int]) -> list[EvaluationJob]:
    """Networks to train on a condensed set."""
    return [EvaluationJob(subject="condensed", repeat=n, iteration=0) for n in repeats]


def train_and_test(
    config: RunConfig,
    info: DatasetInfo,
    images: Images,
    jobs: Sequence[EvaluationJob],
    listener: Listener,
) -> Iterator[Evaluated]:
    """Train and test networks, as many at a time as there is room for.

    Args:
        config: settled.
        info: of the data to test on.
        images: the condensed set; none are needed for jobs of other subjects.
        jobs: which networks.
        listener: is told what happens.

    Yields:
        Each network, as it is done.
    """
    work = evaluation_work(config, info.image_shape, info.num_classes)
    runner = make_runner(config, info, pixels=work)
    try:
        for line in runner.notes:
            listener(Announcement(line))
        runner.adopt(images)
        listener(Started("evaluate", len(jobs)))
        for event in runner.evaluate(jobs):
            listener(event)
            if isinstance(event, Evaluated):
                yield event
    finally:
        runner.close()


def told_protocol(config: RunConfig) -> dict[str, Any]:
    """Under what protocol networks are evaluated, as results say it."""
    return {
        "protocol": config.evaluation.protocol,
        "epochs": config.evaluation.eval_epochs,
        "split": config.evaluation.eval_split,
    }


def _config_of(card: Card, data: str, options: Mapping[str, Any]) -> RunConfig:
    """The set's own settings under the given options; nothing is condensed with it."""
    own = {
        "data": data,
        "recipe": card.recipe,
        "flips": "on" if card.flips else "off",
        "ipc": card.ipc,
        "partition": card.partition,
        "seed": card.seed,
        "lr_net": card.protocol["lr_net"],
        "batch_train": card.protocol["batch_train"],
        "protocol": card.protocol["name"],
        "eval_epochs": card.protocol["epochs"],
        "repeats": max(1, card.protocol["repeats"]),
    }
    if "protocol" in options:
        own |= PROTOCOLS.get(options["protocol"], {})
    if fixed := [name for name in options if name in _OF_THE_SET]:
        raise UserError(
            f"expected options of data, evaluation and machine, and seed, got {fixed[0]}, which "
            "is the set's own; leave it out"
        )
    config = RunConfig.from_flat({**own, **options})
    if not config.evaluation.repeats:
        raise UserError("repeats must be at least 1 to evaluate, got 0")
    return config


def _info_for(card: Card, info: DatasetInfo) -> DatasetInfo:
    """The data as the set sees it: test images are normalised as the set was.

    Raises:
        UserError: other classes or another image size.
    """
    if info.class_names != card.class_names:
        ours, theirs = ", ".join(card.class_names[:3]), ", ".join(info.class_names[:3])
        raise UserError(
            f"the set has {len(card.class_names)} classes ({ours}, ...), the data "
            f"{info.num_classes} ({theirs}, ...); evaluate on the data that the set was made "
            "of, with the same --classes"
        )
    if info.image_shape != card.image_shape:
        raise UserError(
            f"the set's images are {'x'.join(map(str, card.image_shape))}, those of the data "
            f"{'x'.join(map(str, info.image_shape))}; use --size {card.image_shape[1]}"
        )
    return dataclasses.replace(info, mean=card.mean, std=card.std)
