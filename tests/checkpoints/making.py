"""Small runs to be kept, and what decides whether two of them are the same."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from idm_ray.algorithm.state import (
    FloatArray,
    GroupState,
    ModelState,
    ModelVersion,
    Pretrained,
    QueueState,
    VersionKey,
)
from idm_ray.checkpoints.commit import Commit, EvaluationResult
from idm_ray.checkpoints.folder import CheckpointFolder

SHAPE = (2, 1, 1, 3, 3)
NO_LOSSES = np.zeros((2, 0, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything of a run that a commit keeps in arrays, and its queue."""

    groups: Mapping[int, GroupState]
    queue: QueueState
    versions: Mapping[VersionKey, ModelVersion]
    pretrained: tuple[Pretrained, ...]


def numbers(rng: np.random.Generator, *shape: int) -> FloatArray:
    """Random numbers, with those among them that are easily lost."""
    array = rng.standard_normal(shape).astype(np.float32)
    awkward = np.array([0x80000000, 0x00000001, 0x7FC12345, 0x7F800000], np.uint32)  # -0, NaN, inf
    array.reshape(-1)[:4] = awkward.view(np.float32)
    return array


def make_run(number: int = 1) -> Run:
    """Two groups at different iterations, two models, and a pretrained set that never changes."""
    rng = np.random.default_rng(number)
    first = 10 * number
    groups = {
        group: GroupState(
            iteration=first + group,
            images=numbers(rng, *SHAPE),
            velocity=numbers(rng, *SHAPE),
            copies={first - 5: numbers(rng, *SHAPE)} if group else {},
            losses=numbers(rng, 2, 4, SHAPE[0]) if group else NO_LOSSES,
        )
        for group in range(2)
    }
    models = tuple(
        ModelState(model=model, age=first + model, correct=3, seen=5)
        for model in (number, number + 2)
    )
    versions = {
        model.version: ModelVersion(weights=numbers(rng, 20), velocity=numbers(rng, 20))
        for model in models
    }
    network = Pretrained(weights=numbers(np.random.default_rng(0), 20), images=100, correct=62)
    queue = QueueState(iteration=first, next_id=number + 5, models=models)
    return Run(groups=groups, queue=queue, versions=versions, pretrained=(network,))


def write_run(folder: CheckpointFolder, run: Run, number: int) -> Commit:
    """Write all files of a commit but its marker."""
    groups = folder.write_groups(run.groups)
    versions = folder.write_models(run.versions)
    return Commit(
        number=number,
        groups=tuple(groups[group] for group in sorted(groups)),
        queue=run.queue,
        models=tuple(versions[model.version] for model in run.queue.models),
        pretrained=folder.write_pretrained(run.pretrained),
        evaluated=(
            EvaluationResult(subject="condensed", repeat=0, iteration=5, accuracy=0.1 + 0.2),
        ),
        seconds=1e9 / 3,
        totals={"matching": 0.1, "training": 5e-324},
    )


def publish_run(folder: CheckpointFolder, number: int) -> Commit:
    """Commit the run that its number makes; nothing stands in the way."""
    commit = write_run(folder, make_run(number), number)
    assert folder.publish(commit) == ""
    return commit


def read_run(folder: CheckpointFolder, commit: Commit) -> Run:
    """Read all files of a commit."""
    return Run(
        groups={n: folder.read_group(stored) for n, stored in enumerate(commit.groups)},
        queue=commit.queue,
        versions={key: folder.read_model(file) for key, file in commit.versions.items()},
        pretrained=tuple(map(folder.read_pretrained, commit.pretrained)),
    )


def names_in(folder: CheckpointFolder) -> set[str]:
    """The files of a folder that are not hidden."""
    return {entry.path for entry in folder.place.files()} if folder.place.is_folder() else set()


def names_of(*commits: Commit) -> set[str]:
    """The files that commits consist of, with their markers."""
    markers = {f"commit-{commit.number:08d}.json" for commit in commits}
    return markers | {file.name for commit in commits for file in commit.files}


def bits(thing: Any) -> Any:
    """What is equal for equal things, to the bit: NaN and -0.0 too."""
    if isinstance(thing, np.ndarray):
        return str(thing.dtype), thing.shape, thing.tobytes()
    if isinstance(thing, Mapping):
        return {key: bits(value) for key, value in thing.items()}
    if dataclasses.is_dataclass(thing):
        return [bits(getattr(thing, field.name)) for field in dataclasses.fields(thing)]
    return [bits(one) for one in thing] if isinstance(thing, tuple) else thing
