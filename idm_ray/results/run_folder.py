"""The folder of a run: which files it holds, and how they are written.

What is in the files is the business of whoever writes them.
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

from idm_ray.errors import UserError
from idm_ray.results.atomic import write_json, write_text

_FOLDERS: Final = ("checkpoints", "tb")
# The config comes last: as long as it is there, a removal that was cut short can be repeated.
_FILES: Final = (
    "metrics.jsonl",
    "summary.json",
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
    """The folder."""

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool) -> "RunFolder":
        """Makes the folder ready for a new run.

        Args:
            path: The folder; it and its parents are created where missing.
            overwrite: Whether to remove the files of an earlier run; others are never touched.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, it is a file, or nothing
                can be written into it.
        """
        folder = cls.check(path, overwrite=overwrite)
        try:
            if folder._holds_run():
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

    @classmethod
    def check(cls, path: str | os.PathLike[str], *, overwrite: bool) -> "RunFolder":
        """Refuses what `create` would refuse at first sight, and changes nothing.

        Raises:
            UserError: The folder holds a run and `overwrite` is off, or it is a file.
        """
        folder = cls(Path(path))
        if folder.path.exists() and not folder.path.is_dir():
            raise UserError(f"expected a folder at {path}, found a file; choose another --out")
        if folder._holds_run() and not overwrite:
            raise UserError(
                f"expected a new folder, found a run in {path}; add --overwrite or "
                "choose another --out"
            )
        return folder

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

    def _holds_run(self) -> bool:
        return self.config_path.exists() or self.condensed_path.exists()

    def _remove_run(self) -> None:
        for name in _FOLDERS:
            folder = self.path / name
            if folder.is_symlink():
                folder.unlink()  # what it points to lies outside the run
            elif folder.is_dir():
                shutil.rmtree(folder)
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)


def next_free(base: str | os.PathLike[str], stem: str) -> Path:
    """Returns `base/stem-n` for the smallest n from 1 that does not exist."""
    number = 1
    while (path := Path(base) / f"{stem}-{number}").exists():
        number += 1
    return path
