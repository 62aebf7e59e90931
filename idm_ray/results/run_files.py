"""The files of a run: their names, whether a folder holds a run, and how one is removed."""

import shutil
from typing import Final

from idm_ray.storage import Location

# Checkpoints are written where they stay; all else is written on a local disk and published.
PUBLISHED_FOLDERS: Final = ("gallery", "tb")
FOLDERS: Final = ("checkpoints", *PUBLISHED_FOLDERS)
# In the order of removal; they are published in the opposite one. The summary is the mark of a
# complete run, and as long as the config is there, a removal that was cut short can be repeated.
FILES: Final = (
    "summary.json",
    "metrics.jsonl",
    "gallery.png",
    "curves.png",
    "report.html",
    "condensed.parquet",
    "config.yaml",
)


def holds_run(place: Location) -> bool:
    """Whether there is a run in a folder, or what is left of one."""
    return (place / "config.yaml").exists() or (place / "condensed.parquet").exists()


def remove_run(place: Location) -> None:
    """Remove the run that a folder holds, and nothing else.

    Raises:
        OSError: a local file cannot be removed.
        StorageError: a remote store went on failing.
    """
    for name in FOLDERS:
        remove_folder(place / name)
    for name in FILES:
        (place / name).delete()


def remove_folder(place: Location) -> None:
    """Remove a folder with all that is in it; no error if there is none.

    Raises:
        OSError: a local file cannot be removed.
        StorageError: a remote store went on failing.
    """
    path = place.local
    if path is None:
        for entry in place.files() if place.is_folder() else ():
            (place / entry.path).delete()
    elif path.is_symlink():
        path.unlink()  # what it points to lies outside the run
    elif path.is_dir():
        shutil.rmtree(path)
