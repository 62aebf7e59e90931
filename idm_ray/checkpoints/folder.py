"""The folder of a run's checkpoints, local or in an object store.

A commit is made by its marker, which is written after all its files and removed before them; so
whatever a process was doing when it was killed, the last commit is whole. Every file is checked
against the size and the SHA-256 in the marker before anything is made of it.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from idm_ray.algorithm.state import GroupState, ModelVersion, Pretrained, VersionKey
from idm_ray.checkpoints.arrays import (
    pack_group,
    pack_model,
    pack_pretrained,
    unpack_group,
    unpack_model,
    unpack_pretrained,
)
from idm_ray.checkpoints.commit import Commit, StoredFile, StoredGroup
from idm_ray.checkpoints.names import (
    group_name,
    is_own,
    marker_name,
    marker_number,
    model_name,
    pretrained_name,
)
from idm_ray.errors import CheckpointError, IdmRayError
from idm_ray.local_disk import abandoned_files
from idm_ray.storage import Location

_LARGEST_MARKER_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """Where the commits of one run lie; opens nothing until it is asked, and can be pickled.

    Any process may write and read files. Publishing and removing is for one process, and only
    while nobody writes: files that no commit lists are taken for left-overs.

    All writing raises OSError (of a local disk), StorageError or DataError (of an object store).
    Reading raises CheckpointError, which names the file, for whatever is wrong with it; a file
    that may not be read is a DataError, and a store that goes on failing a StorageError.
    """

    place: Location

    def write_groups(self, states: Mapping[int, GroupState]) -> dict[int, StoredGroup]:
        """Write groups of classes, a file each, by their numbers; on return they are durable."""
        return {
            group: StoredGroup(
                iteration=state.iteration,
                file=self._write(group_name(group, state.iteration), pack_group(state)),
            )
            for group, state in states.items()
        }

    def write_models(
        self, versions: Mapping[VersionKey, ModelVersion]
    ) -> dict[VersionKey, StoredFile]:
        """Write models of the queue, a file each; on return they are durable."""
        return {
            key: self._write(model_name(key), pack_model(version))
            for key, version in versions.items()
        }

    def write_pretrained(self, networks: Sequence[Pretrained]) -> tuple[StoredFile, ...]:
        """Write the pretrained set, a file each; on return they are durable."""
        return tuple(
            self._write(pretrained_name(member), pack_pretrained(network))
            for member, network in enumerate(networks)
        )

    def publish(self, commit: Commit) -> str:
        """Make a commit the newest, once all its files are written.

        What neither it nor the commit before it lists is then removed.

        Returns:
            What stood in the way of removing; empty if nothing did. The commit stands either way.
        """
        (self.place / marker_name(commit.number)).write_text(commit.to_json())
        try:
            self.return_to(commit)
        except (OSError, IdmRayError) as error:
            return str(error)
        return ""

    def return_to(self, commit: Commit) -> None:
        """Make an earlier commit the newest again: all that was written since is removed.

        Also what was written for a commit that could not be published. The sound commit before
        this one stays.
        """
        names = self._names()
        self._remove(names, kept=[commit, *self._before(commit, names)])

    def remove(self) -> None:
        """Remove all commits and their files, and the folder if nothing else is in it."""
        self._remove(self._names(), kept=[])
        if (folder := self.place.local) is not None:
            with contextlib.suppress(OSError):  # files of others, or it was never made
                folder.rmdir()

    def commits(self) -> list[Commit | CheckpointError]:
        """Read the records of all commits, newest first; of a damaged one, what is wrong with it.

        A sound record does not say that the files it lists are sound, too.
        """
        found: list[Commit | CheckpointError] = []
        for number in _newest_first(self._names()):
            try:
                with _named(self.place / marker_name(number)):
                    found.append(self._commit(number))
            except CheckpointError as error:
                found.append(error)
        return found

    def read_group(self, stored: StoredGroup) -> GroupState:
        """Read a group of classes."""
        with self._checked(stored.file) as content:
            return unpack_group(stored.iteration, content)

    def read_model(self, stored: StoredFile) -> ModelVersion:
        """Read a model of the queue."""
        with self._checked(stored) as content:
            return unpack_model(content)

    def read_pretrained(self, stored: StoredFile) -> Pretrained:
        """Read a pretrained network."""
        with self._checked(stored) as content:
            return unpack_pretrained(content)

    def _write(self, name: str, content: bytes) -> StoredFile:
        (self.place / name).write_bytes(content)
        return StoredFile.of(name, content)

    @contextlib.contextmanager
    def _checked(self, stored: StoredFile) -> Iterator[bytes]:
        """Hands out a file's content if it is what was written; errors in the block name it."""
        place = self.place / stored.name
        with _named(place):
            content = _read(place, range(stored.size, stored.size + 1))
            found = hashlib.sha256(content).hexdigest()
            if found != stored.sha256:
                raise CheckpointError(
                    f"expected the SHA-256 {stored.sha256[:12]}..., found {found[:12]}..."
                )
            yield content

    def _commit(self, number: int) -> Commit:
        content = _read(self.place / marker_name(number), range(_LARGEST_MARKER_BYTES + 1))
        commit = Commit.from_json(content)
        if commit.number != number:
            raise CheckpointError(f"expected commit {number}, found commit {commit.number}")
        return commit

    def _before(self, commit: Commit, names: Sequence[str]) -> list[Commit]:
        """The newest sound commit before one, if `names` have any.

        A marker that cannot be read now may be sound: that is an OSError, not a damage.
        """
        for number in _newest_first(names):
            with contextlib.suppress(CheckpointError):
                if number < commit.number:
                    return [self._commit(number)]
        return []

    def _names(self) -> list[str]:
        if not self.place.is_folder():
            return []
        return [entry.path for entry in self.place.files() if is_own(entry.path)]

    def _remove(self, names: Sequence[str], *, kept: Sequence[Commit]) -> None:
        """Remove of the files there are what no kept commit consists of, and left-overs."""
        listed = {marker_name(commit.number) for commit in kept}
        listed |= {file.name for commit in kept for file in commit.files}
        surplus = [name for name in names if name not in listed]
        # Markers first: none ever lists files that were removed.
        for name in sorted(surplus, key=lambda name: marker_number(name) is None):
            (self.place / name).delete()
        if (folder := self.place.local) is not None:
            for file, name in abandoned_files(folder):
                if is_own(name):
                    file.unlink(missing_ok=True)


def _newest_first(names: Sequence[str]) -> list[int]:
    """Numbers of the commits whose markers are among some names."""
    numbers = (marker_number(name) for name in names)
    return sorted((number for number in numbers if number is not None), reverse=True)


def _read(place: Location, sizes: range) -> bytes:
    """A file's content, if its size is one of `sizes`: nothing larger is ever in memory."""
    entry = place.entry()
    if entry is None:
        raise CheckpointError("expected a file, found none")
    if entry.size not in sizes:
        allowed = f"{sizes[-1]}" if len(sizes) == 1 else f"at most {sizes[-1]}"
        raise CheckpointError(f"expected {allowed} bytes, found {entry.size}")
    return place.read_bytes()


@contextlib.contextmanager
def _named(place: Location) -> Iterator[None]:
    """Names the file that is damaged; one that cannot be read now may be sound: an OSError."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {error}") from error
