"""The folder of a run: which files it holds, and how they are written.

What is in the files is the business of whoever writes them. A run that is to lie in an object
store is written into a local working folder and copied from there.
"""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from idm_ray.errors import DataError, StorageError, UserError
from idm_ray.local_disk import abandoned_files, list_files
from idm_ray.results.atomic import write_json, write_text
from idm_ray.results.run_config import parse_config
from idm_ray.results.run_files import FILES, PUBLISHED_FOLDERS, holds_run, remove_run
from idm_ray.results.run_lock import RunLock
from idm_ray.storage import Location

# Changes when a file does.
_Version = tuple[int, int, int]


class RunFolder:
    """The folder of a run: `create` makes a new one, `open` finds one that is there.

    A context manager: at its end the run is free for other processes.

    Args:
        path: Where the files are written: the folder itself, or a working folder.
        remote: Where they are copied to, if the run is not to lie on a local disk.
    """

    def __init__(self, path: Path, remote: Location | None = None) -> None:
        self.path, self.remote = path, remote
        self._lock = RunLock(path)
        self._published: dict[str, _Version] = {}
        self._publishing = threading.Lock()

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool) -> "RunFolder":
        """Makes the folder ready for a new run, and locks it.

        Args:
            path: The folder, by path or URI; it and its parents are created where missing.
            overwrite: Whether to remove the files of an earlier run; others are never touched.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, another process writes to
                it, it is a file, or nothing can be written into it.
            StorageError: A remote store went on failing.
        """
        cls.check(path, overwrite=overwrite)
        place = Location.at(path)
        if place.local is None:
            if holds_run(place):
                remove_run(place)
            return cls(_working_folder(), place)
        folder = cls(_local_path(path, place))
        try:
            folder._take(place, overwrite=overwrite)
        except OSError as error:
            folder.close()
            raise UserError(
                f"expected a folder to write to at {path}, found: {error.strerror}; choose "
                "another --out"
            ) from error
        except UserError:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Finds a run, to read it; who goes on to write to it calls `lock` first.

        What there is of a remote run, but for its checkpoints, is copied to a working folder.

        Args:
            path: The folder, by path or URI.

        Raises:
            UserError: There is no run, or it cannot be read.
            StorageError: A remote store went on failing.
        """
        place = Location.at(path)
        if (place / "config.yaml").entry() is None:
            found = "a file" if place.exists() else "none"
            if place.is_folder():
                found = "one without config.yaml"
            raise UserError(
                f"expected the folder of a run at {place}, found {found}; name what --out was "
                "when the run began"
            )
        if place.local is not None:
            return cls(_local_path(path, place))
        folder = cls(_working_folder(), place)
        try:
            folder._fetch(place)
        except BaseException:
            shutil.rmtree(folder.path)
            raise
        return folder

    @staticmethod
    def check(path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Refuses what `create` would refuse at first sight, and changes nothing.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, another process writes to
                it, or it is a file.
            StorageError: A remote store went on failing.
        """
        place = Location.at(path)
        if place.exists() and not place.is_folder():
            raise UserError(f"expected a folder at {place}, found a file; choose another --out")
        _refuse_run(place, overwrite=overwrite)
        if place.local is not None:
            RunLock(place.local).refuse_others()

    def lock(self) -> None:
        """Keeps other processes from writing to this run, until `close`.

        A working folder needs no lock, and a remote run has none.

        Raises:
            UserError: Another process writes to it, or nothing can be written to it.
        """
        if self.remote is not None:
            return
        try:
            self._lock.acquire()
            self._remove_abandoned()
        except OSError as error:
            raise UserError(
                f"expected a run to write to in {self.path}, found: {error.strerror}; make the "
                "folder writable, or copy the run elsewhere"
            ) from error

    def close(self) -> None:
        """Lets go of the lock, and removes a working folder if all of it is remote."""
        self._lock.release()
        if self.remote is not None and not any(self._unpublished()):
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def place(self) -> Path | Location:
        """Where the run lies in the end."""
        return self.remote or self.path

    @property
    def name(self) -> str:
        """What the run is called: as its folder is."""
        return self.remote.name if self.remote else self.path.resolve().name

    @property
    def is_complete(self) -> bool:
        """Whether the run has come to its end; of a remote one, when it was opened."""
        return self.summary_path.exists()

    @property
    def checkpoints(self) -> Location:
        """Where checkpoints are written: of a remote run, the remote place."""
        return (self.remote or Location.at(self.path)) / "checkpoints"

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def condensed_path(self) -> Path:
        """The condensed set."""
        return self.path / "condensed.parquet"

    @property
    def selected_path(self) -> Path:
        """The iterate that is best on validation images, where one is selected."""
        return self.path / "selected.parquet"

    @property
    def metrics_path(self) -> Path:
        """One JSON line for each report."""
        return self.path / "metrics.jsonl"

    @property
    def summary_path(self) -> Path:
        """The results in short."""
        return self.path / "summary.json"

    @property
    def gallery_path(self) -> Path:
        """The picture of the synthetic images."""
        return self.path / "gallery.png"

    @property
    def curves_path(self) -> Path:
        """The picture of losses and accuracies over the iterations."""
        return self.path / "curves.png"

    @property
    def board_path(self) -> Path:
        """The folder of what TensorBoard shows."""
        return self.path / "tb"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration as YAML, keys in their order, atomically.

        Args:
            config: Plain values, lists and mappings.
        """
        write_text(
            self.config_path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        )

    def read_config(self) -> dict[str, Any]:
        """Reads the configuration back; options that are missing are at their defaults.

        Raises:
            UserError: It cannot be read or was broken by hand, or a newer version wrote it.
        """
        content = Location.at(self.config_path).read_bytes()
        return parse_config(content, str(self.place / "config.yaml"))

    def read_summary(self) -> dict[str, Any]:
        """Reads the results in short.

        Raises:
            UserError: They were changed to what is no JSON.
        """
        try:
            summary: dict[str, Any] = json.loads(self.summary_path.read_bytes())
        except ValueError as error:
            raise UserError(
                f"expected JSON in {self.place / 'summary.json'}, found: {error}; remove the file "
                "to have the results worked out again"
            ) from error
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the results in short, atomically.

        Raises:
            ValueError: A number is not finite.
        """
        write_json(self.summary_path, summary)

    def start(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration and publishes it: what cannot be written to is found out now.

        Raises:
            DataError: There is no such bucket, or it may not be written to.
            StorageError: The store went on failing.
        """
        self.write_config(config)
        try:
            self.publish()
        except (DataError, StorageError):
            shutil.rmtree(self.path)  # a working folder, with nothing of worth in it yet
            raise

    def publish(self) -> None:
        """Copies what has changed to the remote folder, the summary last; a local run lies there.

        Any thread may do so.

        Raises:
            DataError: There is no such bucket, or it may not be written to.
            StorageError: The store went on failing; what was copied is not copied again.
            OSError: There is no room for a temporary copy.
        """
        if self.remote is None:
            return
        with self._publishing:
            for name, version in self._unpublished():
                with (
                    open(self.path / name, "rb") as source,
                    (self.remote / name).atomic_write() as target,
                ):
                    shutil.copyfileobj(source, target)
                self._published[name] = version

    def hand_over(self) -> None:
        """Publishes the complete run, and removes the working folder where there is one.

        Raises:
            StorageError: That failed; names the working folder, which is kept.
        """
        try:
            self.publish()
        except (DataError, StorageError, OSError) as error:
            raise StorageError(f"the run is complete in {self.path} only: {error}") from error
        if self.remote is not None:
            shutil.rmtree(self.path)

    def _take(self, place: Location, *, overwrite: bool) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # Permissions and mount options tell less than an attempt does.
        with tempfile.TemporaryFile(dir=self.path):
            pass
        self._lock.acquire()
        _refuse_run(place, overwrite=overwrite)  # somebody may have begun one meanwhile
        self._remove_abandoned()
        if holds_run(place):
            remove_run(place)

    def _remove_abandoned(self) -> None:
        """Remove what a killed process has left half written; only while it cannot be writing."""
        for file, name in abandoned_files(self.path):
            if name in FILES:
                file.unlink(missing_ok=True)

    def _fetch(self, remote: Location) -> None:
        names = [name for name in FILES if (remote / name).exists()]
        for folder in PUBLISHED_FOLDERS:
            if (remote / folder).is_folder():
                names += [f"{folder}/{entry.path}" for entry in (remote / folder).files()]
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            with (remote / name).open_stream() as source, open(self.path / name, "xb") as file:
                shutil.copyfileobj(source, file)
        self._published = dict(self._unpublished())

    def _unpublished(self) -> Iterator[tuple[str, _Version]]:
        """The files that are not remote as they are, in the order of publishing."""
        inside = [
            f"{folder}/{entry.path}"
            for folder in PUBLISHED_FOLDERS
            if (self.path / folder).is_dir()
            for entry in list_files(self.path / folder)
        ]
        config, *others, log, summary = reversed(FILES)
        for name in (config, *others, *inside, log, summary):
            try:
                status = os.stat(self.path / name)
            except FileNotFoundError:
                continue
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if version != self._published.get(name):
                yield name, version


def _working_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="idm_ray-run-"))


def _local_path(written: str | os.PathLike[str], place: Location) -> Path:
    """The path as it was written, for messages; absolute where only `place` knows what it means."""
    path = Path(written)
    return path if os.path.abspath(path) == place.path else Path(place.path)


def _refuse_run(place: Location, *, overwrite: bool) -> None:
    if not overwrite and holds_run(place):
        raise UserError(
            f"expected a new folder, found a run in {place}; go on with it by --resume auto, add "
            "--overwrite, or choose another --out"
        )


def next_free(base: str | os.PathLike[str], stem: str) -> Path:
    """Returns `base/stem-n` for the smallest n from 1 that does not exist."""
    number = 1
    while (path := Path(base) / f"{stem}-{number}").exists():
        number += 1
    return path
