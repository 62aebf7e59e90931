"""The record of a commit: its files, and what decides the future of the run besides them.

Only the record and its JSON form; `folder` puts it into a file.
"""

import dataclasses
import functools
import hashlib
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from idm_ray.algorithm.state import QueueState, VersionKey
from idm_ray.checkpoints.names import group_name, model_name, pretrained_name
from idm_ray.errors import CheckpointError

FORMAT: Final = 1
"""Of all files of a checkpoint: raise it when one of them would mean something else."""
_LARGEST: Final = 2**63 - 1
_ANY_SPLIT: Final = "eval_split"
"""What a result was tested on if it does not say so: the images that the run's option names."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_JSON_TYPES: Final[dict[type, str]] = {
    int: "a whole number",
    float: "a number with a point",
    str: "a text",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file of a checkpoint: its name, size in bytes, and SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, content: bytes) -> "StoredFile":
        """Describe a file by what it holds."""
        return cls(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredGroup:
    """A group of classes before an iteration, which counts from 0."""

    iteration: int
    file: StoredFile


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """A network that was trained and tested.

    Attributes:
        subject: which images it was trained on.
        repeat: which of the networks.
        iteration: of the condensed images.
        accuracy: a fraction.
        split: images that it was tested on; written only where it is another than the default, as
            in commits from before iterates could be selected.
    """

    subject: str
    repeat: int
    iteration: int
    accuracy: float
    split: str = _ANY_SPLIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """All of a run at one point, to go on from.

    Attributes:
        number: of the commit; each has a larger one than those before it.
        groups: by number of the group; they need not be at the same iteration.
        queue: the model queue, for the group that is furthest behind.
        models: weights and velocity of each of the queue's models, in its order.
        pretrained: the pretrained set, by number.
        evaluated: results so far.
        seconds: of condensing so far.
        totals: other numbers that go on from where they were, by name.

    Raises:
        ValueError: two fields disagree, or a file is not called what it has to be.
    """

    number: int
    groups: tuple[StoredGroup, ...]
    queue: QueueState
    models: tuple[StoredFile, ...]
    pretrained: tuple[StoredFile, ...]
    evaluated: tuple[EvaluationResult, ...]
    seconds: float
    totals: Mapping[str, float]

    def __post_init__(self) -> None:
        _check_files(self)
        _check_counts(self)

    @property
    def iteration(self) -> int:
        """Iterations that every group has finished."""
        return min(group.iteration for group in self.groups)

    @property
    def versions(self) -> dict[VersionKey, StoredFile]:
        """The queue's models by what tells their weights apart."""
        versions = (model.version for model in self.queue.models)
        return dict(zip(versions, self.models, strict=True))

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All that the commit consists of, besides its record."""
        return (*(group.file for group in self.groups), *self.models, *self.pretrained)

    @property
    def size(self) -> int:
        """Of all its files together, in bytes."""
        return sum(file.size for file in self.files)

    def without_queue(self) -> "Commit":
        """The same with the queue as before its first iteration: it can be trained once more."""
        new = QueueState(iteration=0, next_id=0, models=())
        return dataclasses.replace(self, queue=new, models=(), pretrained=())

    def to_json(self) -> str:
        """Write it down, with a checksum of its own.

        Raises:
            ValueError: a number is not finite.
        """
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        # Whoever adds up nothing has a whole number, which is read as damage.
        content["seconds"] = float(self.seconds)
        content["totals"] = {name: float(total) for name, total in self.totals.items()}
        for result in content["evaluated"]:
            result["accuracy"] = float(result["accuracy"])
            if result["split"] == _ANY_SPLIT:
                del result["split"]
        sealed = {**content, "sha256": _checksum(content)}
        return json.dumps(sealed, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Commit":
        """Read what `to_json` wrote, and nothing else: not a space may differ.

        Raises:
            CheckpointError: it is damaged, changed by hand, of a newer format, or says what cannot
                be; does not name the file.
        """
        try:
            content = json.loads(text.decode("ascii"))
            _check_format(content)
            content = {key: content[key] for key in content if key not in ("format", "sha256")}
            commit: Commit = _built(cls, content, "the commit")
            if commit.to_json().encode() != text:
                raise ValueError("it does not match its SHA-256")
        except CheckpointError:
            raise
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"expected a commit, found a damaged one ({error})") from error
        return commit


def _checksum(content: Mapping[str, Any]) -> str:
    """Hash of the canonical JSON: keys sorted, no spaces, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_format(content: object) -> None:
    """Refuse another format before anything else is looked at: it may define all of it anew."""
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    found = content.get("format")
    if type(found) is not int or found < 1:
        raise ValueError("it names no format")
    if found != FORMAT:
        raise CheckpointError(
            f"expected a commit of format {FORMAT}, found format {found!s:.20}, which a newer "
            "idm_ray wrote; install that one"
        )


def _built(hint: Any, value: Any, where: str) -> Any:
    """Make of plain JSON values what annotations say; all numbers are finite and from 0.

    Raises:
        ValueError: they are of other types, or too many or too few; names the place.
    """
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        found = _checked(value, dict, where)
        if found.keys() not in (hints.keys(), hints.keys() - _with_default(hint)):
            raise ValueError(f"{where} has other fields than {', '.join(hints)}")
        return hint(**{name: _built(hints[name], found[name], f"{where}.{name}") for name in found})
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        items = enumerate(_checked(value, list, where))
        return tuple(_built(arguments[0], item, f"{where}[{n}]") for n, item in items)
    if typing.get_origin(hint) is Mapping:
        items = _checked(value, dict, where).items()
        return {name: _built(arguments[1], item, f"{where}[{name!r:.20}]") for name, item in items}
    _checked(value, hint, where)
    if hint is not str and not 0 <= value <= _LARGEST:  # so NaN, too
        raise ValueError(f"{where} is {value!r:.20}, expected a number from 0 to 2**63 - 1")
    return value


def _checked(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:  # True is an int, too
        raise ValueError(f"{where} is {value!r:.20}, expected {_JSON_TYPES[kind]}")
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _with_default(kind: type) -> frozenset[str]:
    """Fields that may be left out."""
    fields = dataclasses.fields(kind)
    return frozenset(f.name for f in fields if f.default is not dataclasses.MISSING)


def _check_files(commit: Commit) -> None:
    """Refuse names other than the ones that numbers give: strangers could lead out of the folder.

    Raises:
        ValueError: says which.
    """
    queue = commit.queue.models
    if not commit.groups or len(commit.models) != len(queue):
        raise ValueError(
            f"expected a group, and the files of {len(queue)} models, found {len(commit.groups)} "
            f"and {len(commit.models)}"
        )
    names = [group_name(number, group.iteration) for number, group in enumerate(commit.groups)]
    names += [model_name(model.version) for model in queue]
    names += [pretrained_name(member) for member in range(len(commit.pretrained))]
    for name, file in zip(names, commit.files, strict=True):
        if file.name != name:
            raise ValueError(f"expected a file {name}, found {file.name!r:.60}")
        if not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"expected the SHA-256 of {name}, found {file.sha256!r:.60}")


def _check_counts(commit: Commit) -> None:
    """Refuse counts that no run has.

    Raises:
        ValueError: says which.
    """
    queue = commit.queue
    if queue.iteration > commit.iteration:
        raise ValueError(
            f"expected the queue at iteration {commit.iteration} or before, found {queue.iteration}"
        )
    ids = [model.model for model in queue.models]
    if any(first >= second for first, second in pairwise([*ids, queue.next_id])):
        raise ValueError(f"expected ids that rise to {queue.next_id}, found {ids!s:.60}")
    if any(model.correct > model.seen for model in queue.models):
        raise ValueError("expected no more images that a model got right than it has seen")
    if any(result.accuracy > 1 for result in commit.evaluated):
        raise ValueError("expected accuracies up to 1")
