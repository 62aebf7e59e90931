"""The folder that shards are written to: what may be there, what is removed, and who writes."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from braceexpand import braceexpand
from filelock import FileLock, Timeout

from idm_ray.data.foreign import is_foreign
from idm_ray.data.listing import Source, some_names
from idm_ray.data.manifest import INDEX_FILE, MANIFEST_FILE, SPLITS, Manifest
from idm_ray.data.shard_parts import LOCK, PARTS, PLAN, ShardSettings, remove_parts
from idm_ray.errors import DataError, UserError
from idm_ray.local_disk import abandoned_files
from idm_ray.storage import Location

_TOKEN = "token"  # nosec B105 # name of a file


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What was begun in a folder: writing goes on only with the same plan.

    Attributes:
        source: SHA-256, in hexadecimal, of its identity.
        settings: those of `ShardSettings` that decide bytes.
        stems: of all shards' paths below the folder, before "-000.tar".
    """

    source: str
    settings: dict[str, int | None]
    stems: tuple[str, ...]

    @classmethod
    def of(cls, source: Source, settings: ShardSettings, stems: Sequence[str]) -> "Plan":
        """Make the plan of writing a source."""
        identity = "\0".join(source.identity()).encode(errors="surrogateescape")
        values = dataclasses.asdict(settings)
        del values["strict"]
        return cls(source=hashlib.sha256(identity).hexdigest(), settings=values, stems=tuple(stems))

    @classmethod
    def begun_in(cls, target: Location) -> "Plan | None":
        """Read the plan that was begun in a folder; None where none was.

        Raises:
            UserError: it is damaged.
        """
        file = target / PARTS / PLAN
        if not file.exists():
            return None
        try:
            values = json.loads(file.read_bytes())
            return cls(**{**values, "stems": tuple(values["stems"])})
        except (ValueError, KeyError, TypeError) as error:
            raise _unknown_files(file, target) from error

    def write(self, target: Location) -> None:
        """Note in a folder that it was begun."""
        (target / PARTS / PLAN).write_text(json.dumps(dataclasses.asdict(self), indent=1))

    def holds(self, path: str) -> bool:
        """Whether a path below the folder is that of one of its shards."""
        stem, _, number = path.removesuffix(".tar").rpartition("-")
        return path.endswith(".tar") and number.isdigit() and stem in self.stems


def source_places(written: str) -> list[Location]:
    """Say where a source lies: its folder or file, or a tar of each folder; words lie nowhere."""
    if not is_foreign(written):
        return [Location.at(written)]
    tars = map(Location.at, braceexpand(written))
    return list({tar.parent: tar for tar in tars}.values())


def refuse_overlap(places: Sequence[Location], target: Location) -> None:
    """Refuse to write where the source is: it would change while it is read.

    Beside a file, a new folder is fine; a folder belongs to the source with all that is in it.

    Args:
        places: of the source.
        target: folder of the set.

    Raises:
        UserError: one is in the other, or both are the same.
    """
    for place in places:
        is_folder = place.is_folder()
        source, out = _comparable(place if is_folder else place.parent), _comparable(target)
        if out == source or out in source.parents or (is_folder and source in out.parents):
            raise UserError(
                f"expected --out apart from the source, found {target} for the source {place}: "
                "choose another --out"
            )


@contextlib.contextmanager
def sole_writer(target: Location) -> Iterator[None]:
    """Holds a local folder for as long as one command writes to it.

    Raises:
        UserError: another command does, or nothing can be written there.
    """
    folder = (target / PARTS).local
    if folder is None:
        yield
        return
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"expected no other command that writes to {target}, found one: wait for its end, or "
            "choose another --out"
        ) from error
    except OSError as error:
        raise _not_writable(target, error) from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # parts are in it: writing is to go on later
            folder.rmdir()


def begin(plan: Plan, target: Location, *, overwrite: bool) -> None:
    """Make a folder ready for a set, or for going on with one that was not finished.

    Args:
        plan: of the set.
        target: folder of the set.
        overwrite: whether to remove another set that is there.

    Raises:
        UserError: there is a set already, or one of another source or other settings was begun; or
            tar files of others are there; or nothing can be written there.
    """
    if overwrite:
        _remove_set(target)
    elif (target / MANIFEST_FILE).exists():
        raise UserError(f"expected a new folder, found shards in {target}: add --overwrite")
    begun = Plan.begun_in(target)
    if begun not in (None, plan):
        raise UserError(
            f"expected the same source and settings as the shards begun in {target}, found others: "
            "add --overwrite to begin again"
        )
    strange = [path for path in _tars(target) if begun is None or not begun.holds(path)]
    if strange:
        raise UserError(
            f"expected no tar files in {target} but shards that were begun, found "
            f"{some_names(strange)}: move them elsewhere, or choose another --out"
        )
    _remove_temporary_files(target, plan)
    try:
        plan.write(target)
    except OSError as error:
        raise _not_writable(target, error) from error


def leave_token(target: Location) -> str:
    """Leave in a folder what tells it from every other one; returns it."""
    token = secrets.token_hex(16)
    (target / PARTS / _TOKEN).write_text(token)
    return token


def check_sight(token: str, places: Sequence[Location], target: Location) -> None:
    """Check that this node sees what the one that began sees.

    Args:
        token: that was left in the target.
        places: of the source.
        target: folder of the set.

    Raises:
        DataError: source or target is not what it is there; the line names node and path.
    """
    node, remedy = platform.node(), "use paths that all nodes share, or URIs, or add --local"
    for place in places:
        if place.local is not None and not os.access(place.path, os.R_OK):
            raise DataError(
                f"expected the source {place} on every node that writes shards, found nothing to "
                f"read there on node {node}: {remedy}"
            )
    try:
        found = (target / PARTS / _TOKEN).read_bytes()
    except DataError:
        found = b""
    if found != token.encode():
        raise DataError(
            f"expected the same folder {target} on every node that writes shards, found another "
            f"one, or none, on node {node}: {remedy}"
        )


def _comparable(place: Location) -> PurePosixPath:
    """A path that is equal for equal places, whatever links or credentials lead there."""
    if place.local is not None:
        return PurePosixPath(place.local.resolve())
    scheme, _, authority = str(place).partition("?")[0].partition("://")
    return PurePosixPath(f"{scheme}:") / authority.partition("/")[0].rpartition("@")[2] / place.path


def _tars(target: Location) -> list[str]:
    if not target.is_folder():
        return []
    return [entry.path for entry in target.files() if entry.path.endswith(".tar")]


def _remove_set(target: Location) -> None:
    """Remove what manifest and plan list, these two last: it can be done again if it is killed."""
    manifest, begun = target / MANIFEST_FILE, Plan.begun_in(target)
    listed: list[str] = []
    if manifest.exists():
        try:
            content = Manifest.from_json(manifest.read_bytes(), str(manifest))
        except DataError as error:
            raise _unknown_files(manifest, target) from error
        listed += [shard.path for shard in content.shards]
    if begun is not None:
        listed += [path for path in _tars(target) if begun.holds(path)]
        _remove_temporary_files(target, begun)
    for path in dict.fromkeys(listed):
        (target / path).delete()
    if listed:
        (target / INDEX_FILE).delete()
    manifest.delete()
    remove_parts(target)


def _remove_temporary_files(target: Location, plan: Plan) -> None:
    """Remove what a killed process was writing: on a local disk it has a hidden name."""
    if target.local is None:
        return
    for folder in (".", PARTS, *SPLITS):
        for file, name in abandoned_files(Path(target.path, folder)):
            path = f"{folder}/{name}"
            own = (f"./{INDEX_FILE}", f"./{MANIFEST_FILE}")
            if path.startswith(f"{PARTS}/") or path in own or plan.holds(path):
                file.unlink()


def _not_writable(target: Location, error: OSError) -> UserError:
    return UserError(
        f"expected a folder to write to at {target}, found: {error.strerror}; choose another --out"
    )


def _unknown_files(file: Location, target: Location) -> UserError:
    return UserError(
        f"expected {file} to say which files are of the shards in {target}, found it damaged: "
        "remove the shards by hand, or choose another --out"
    )
