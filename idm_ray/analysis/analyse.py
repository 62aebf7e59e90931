"""Analysis of condensed sets: is the class of a synthetic image that of its real neighbours?"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idm_ray.analysis.features import FeatureSpace
from idm_ray.analysis.files import check_place, write_files
from idm_ray.analysis.measuring import Measured, measure
from idm_ray.analysis.sets import NamedSet, check_fit, common_network, read_sets
from idm_ray.analysis.settings import DEFAULT_EPOCHS, DEFAULT_K, OPTIONS
from idm_ray.building import can_be_matched
from idm_ray.checks import at_least, is_utf8, refuse_unknown, wrong
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.errors import UserError
from idm_ray.execution import Listener
from idm_ray.layout import settle
from idm_ray.progress import Announcement
from idm_ray.report import provenance
from idm_ray.resolving import absolute, plain_values
from idm_ray.run import make_runner
from idm_ray.storage import Location, shown

# Of what is known of a computation; the rest is about condensing.
_CONTEXT = ("command", "numerics", "processors", "versions", "commit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Consistency:
    """How consistent a set is.

    Attributes:
        file: the set, without a password.
        method: that made it.
        partition: tiles per side of its images.
        ipc: its images per class.
        samples: synthetic samples that were looked at: its images, or their tiles.
        ratios: for each k, the share of the k nearest real images of a sample that have its class,
            mean over the samples.
    """

    file: str
    method: str
    partition: int
    ipc: int
    samples: int
    ratios: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """How condensed sets lie among real images.

    Attributes:
        data: the source of the real images, without a password.
        data_name: its short name.
        data_fingerprint: of the images.
        space: in which distances are measured.
        k: numbers of neighbours, ascending.
        chance: the ratio of samples whose class says nothing of where they are.
        sets: by name.
        out: the folder that was written, without a password; None for none.
        context: the command, the arithmetic, processors, versions and the commit.
    """

    data: str
    data_name: str
    data_fingerprint: str
    space: FeatureSpace
    k: tuple[int, ...]
    chance: float
    sets: Mapping[str, Consistency]
    out: str | None
    context: Mapping[str, Any]


def analyse(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    k: Sequence[int] = (),
    network: str | None = None,
    feature_epochs: int = DEFAULT_EPOCHS,
    listener: Listener = lambda event: None,
    **options: Any,
) -> Analysis:
    """Measure how often the real neighbours of synthetic samples have their class (Fig. 4).

    Args:
        files: a condensed set or several to compare, each as for `load`.
        data: source of the real images that the sets were made of.
        out: new folder for tables and figures, by path or URI; None writes nothing.
        overwrite: replace an earlier analysis in `out`.
        k: numbers of neighbours; by default 1, 5, 10, 20, 50 and 100, as far as every class has so
            many images.
        network: whose features are compared; by default the one that the sets were condensed with.
        feature_epochs: passes over all real training images that it is trained for; 0 leaves its
            weights random. Trained networks are kept in the user's cache folder.
        listener: is told what happens, as it happens.
        **options: options of `idm_ray.config` for the data and for computing in this process, and
            `seed`.

    Raises:
        CondensedSetError: a file is damaged or no condensed set.
        UserError: wrong options, or sets that do not fit the data or each other.
        NonFiniteLossError: the network diverged.
        StorageError, OSError: the results could not be written.

    Source: Sec. 5.3; the paper does not state the network of its feature space.

    >>> found = idm_ray.analyse("runs/demo", data="digits", k=(1, 10), feature_epochs=1)
    >>> found.k, [*found.sets]
    ((1, 10), ['idm-l1-ipc1'])
    """
    given = plain_values({"data": data, **options})
    refuse_unknown(given, OPTIONS)
    paths = [files] if isinstance(files, str | os.PathLike) else [*files]
    _check_own([*paths, *([] if out is None else [out])], k, feature_epochs)
    place = None if out is None else Location.at(out)
    if place is not None:
        check_place(place, overwrite=overwrite)
    sets = read_sets(paths)
    given["network"] = network or common_network(sets)
    info = open_dataset(RunConfig.from_flat(given).data).info
    check_fit(sets, info)
    ks = _neighbours(k, info)
    config = _config_of(given, info, feature_epochs)
    runner = make_runner(config, info, pixels=_work(config, info, sets, feature_epochs))
    try:
        for line in runner.notes:
            listener(Announcement(line))
        measured = measure(runner.plan, sets, ks, feature_epochs, listener)
        known = provenance(runner.plan, runner.processors)
    finally:
        runner.close()
    found = Analysis(
        data=shown(data),
        data_name=info.name,
        data_fingerprint=info.fingerprint,
        space=measured.space,
        k=ks,
        chance=1 / info.num_classes,  # of a sample: its class's share; of all samples: the mean
        sets=_consistencies(sets, measured),
        out=None if out is None else shown(out),
        context={name: known[name] for name in _CONTEXT},
    )
    if place is not None:
        write_files(place, found, measured.projection, info.class_names)
    return found


def _check_own(
    paths: Sequence[str | os.PathLike[str]], k: Sequence[int], feature_epochs: int
) -> None:
    """Check what `analyse` takes beside the config's options."""
    for path in (os.fspath(path) for path in paths):
        if not path or not is_utf8(path):
            raise UserError(f"expected paths in UTF-8, got {path!r}; rename the file or folder")
    for name, least, numbers in (("k", 1, k), ("feature_epochs", 0, [feature_epochs])):
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int):
                raise wrong(name, number, "a whole number")
            at_least(name, number, least)


def _neighbours(k: Sequence[int], info: DatasetInfo) -> tuple[int, ...]:
    """Numbers of neighbours to look at, ascending."""
    images = sum(info.train_counts)
    if not k:
        # Of a larger number of neighbours not all can have the class.
        return tuple(number for number in DEFAULT_K if number <= max(1, min(info.train_counts)))
    if max(k) > images:
        raise UserError(
            f"expected k of at most {images}, the real training images of the data, got {max(k)}; "
            "look at fewer neighbours"
        )
    return tuple(sorted(set(k)))


def _config_of(given: Mapping[str, Any], info: DatasetInfo, epochs: int) -> RunConfig:
    """The settled config of the feature network, in this process; nothing is condensed with it."""
    config = RunConfig.from_flat({**given, "partition": 1, "local": True})
    steps = epochs * -(-sum(info.train_counts) // config.queue.batch_train)
    config = absolute(config.replace(pretrain_steps=max(1, steps)))
    config = settle(config, info.image_shape, info.num_classes)
    if not can_be_matched(config.condense.network):
        raise UserError(
            "expected a network without batch norm, whose features are of one image each, got "
            f"{config.condense.network}; choose another by --network"
        )
    return config


def _work(config: RunConfig, info: DatasetInfo, sets: Sequence[NamedSet], epochs: int) -> float:
    """Pixels through networks, with a backward pass counted thrice."""
    steps = config.queue.pretrain_steps if epochs else 0
    assert isinstance(steps, int), "the config says how many"
    once = sum(info.train_counts) + sum(info.test_counts)
    once += sum(one.card.num_images * one.card.partition**2 for one in sets)
    images = once + 3 * steps * config.queue.batch_train
    return float(images * info.image_shape[1] * info.image_shape[2])


def _consistencies(sets: Sequence[NamedSet], measured: Measured) -> dict[str, Consistency]:
    return {
        one.name: Consistency(
            file=one.file,
            method=one.card.method,
            partition=one.card.partition,
            ipc=one.card.ipc,
            samples=samples,
            ratios=ratios,
        )
        for one, samples, ratios in zip(sets, measured.num_samples, measured.ratios, strict=True)
    }
