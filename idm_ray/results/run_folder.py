"""The folder of a run: which files it holds, and how they are written.

What is in the files is the business of whoever writes them. A run that is to lie in an object
store is written into a local working folder and copied from there.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from idm_ray.errors import DataError, StorageError, UserError
from idm_ray.results.atomic import write_json, write_text
from idm_ray.storage import Location

_FOLDERS: Final = ("checkpoints", "tb")
# In the order of removal; they are published in the opposite one. The summary is the mark of a
# complete run, and as long as the config is there, a removal that was cut short can be repeated.
_FILES: Final = (
    "summary.json",
    "metrics.jsonl",
    "gallery.png",
    "curves.png",
    "report.html",
    "condensed.parquet",
    "config.yaml",
)


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolder:
    """An existing folder of a run; `create` makes a new one."""

    path: Path
    """Where the files are written: the folder itself, or a working folder."""
    remote: Location | None = None
    """Where they are copied to, if the run is not to lie on a local disk."""

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool) -> "RunFolder":
        """Makes the folder ready for a new run.

        Args:
            path: The folder, by path or URI; it and its parents are created where missing.
            overwrite: Whether to remove the files of an earlier run; others are never touched.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, it is a file, or nothing
                can be written into it.
            StorageError: A remote store went on failing.
        """
        cls.check(path, overwrite=overwrite)
        place = Location.at(path)
        if place.local is None:
            _remove_files(place)
            return cls(Path(tempfile.mkdtemp(prefix="idm_ray-run-")), place)
        folder = cls(Path(path))
        try:
            if _holds_run(place):
                folder._remove_run()
            folder.path.mkdir(parents=True, exist_ok=True)
            # Permissions and mount options tell less than an attempt does.
            with tempfile.TemporaryFile(dir=folder.path):
                pass
        except OSError as error:
            raise UserError(
                f"expected a folder to write to at {path}, found: {error.strerror}; choose "
                "another --out"
            ) from error
        return folder

    @staticmethod
    def check(path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Refuses what `create` would refuse at first sight, and changes nothing.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, or it is a file.
            StorageError: A remote store went on failing.
        """
        place = Location.at(path)
        if place.exists() and not place.is_folder():
            raise UserError(f"expected a folder at {place}, found a file; choose another --out")
        if _holds_run(place) and not overwrite:
            raise UserError(
                f"expected a new folder, found a run in {place}; add --overwrite or "
                "choose another --out"
            )

    @property
    def place(self) -> Path | Location:
        """Where the run lies in the end."""
        return self.remote or self.path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def condensed_path(self) -> Path:
        """The condensed set."""
        return self.path / "condensed.parquet"

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

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration as YAML, keys in their order, atomically.

        Args:
            config: Plain values, lists and mappings.
        """
        write_text(
            self.config_path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        )

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the results in short, atomically.

        Raises:
            ValueError: A number is not finite.
        """
        write_json(self.summary_path, summary)

    def log(self, report: Mapping[str, Any]) -> None:
        """Appends a report to the metrics; on return, the system has it.

        Raises:
            ValueError: A number is not finite.
        """
        try:
            line = json.dumps(report, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"expected finite numbers in a report, found {report}") from error
        # Unbuffered and in one piece, so that a killed run leaves whole lines.
        with open(self.metrics_path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

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
        """Copies the files there are to the remote folder, the summary last; else does nothing.

        Raises:
            DataError: There is no such bucket, or it may not be written to.
            StorageError: The store went on failing.
        """
        if self.remote is None:
            return
        for name in reversed(_FILES):
            if (self.path / name).exists():
                with (
                    open(self.path / name, "rb") as source,
                    (self.remote / name).atomic_write() as target,
                ):
                    shutil.copyfileobj(source, target)

    def hand_over(self) -> None:
        """Publishes the complete run, and removes the working folder where there is one.

        Raises:
            StorageError: That failed; names the working folder, which is kept.
        """
        try:
            self.publish()
        except (DataError, StorageError) as error:
            raise StorageError(f"the run is complete in {self.path} only: {error}") from error
        if self.remote is not None:
            shutil.rmtree(self.path)

    def _remove_run(self) -> None:
        for name in _FOLDERS:
            folder = self.path / name
            if folder.is_symlink():
                folder.unlink()  # what it points to lies outside the run
            elif folder.is_dir():
                shutil.rmtree(folder)
        _remove_files(Location.at(self.path))


def _holds_run(place: Location) -> bool:
    return (place / "config.yaml").exists() or (place / "condensed.parquet").exists()


def _remove_files(place: Location) -> None:
    for name in _FILES:
        (place / name).delete()


def next_free(base: str | os.PathLike[str], stem: str) -> Path:
    """Returns `base/stem-n` for the smallest n from 1 that does not exist."""
    number = 1
    while (path := Path(base) / f"{stem}-{number}").exists():
        number += 1
    return path
