"""From what the user wrote after --data to a source of images."""

import difflib
from pathlib import Path

from idm_ray.config import DataConfig
from idm_ray.data.digits import DigitsSource
from idm_ray.data.folder import FolderSource
from idm_ray.data.known import KNOWN
from idm_ray.data.listing import Source
from idm_ray.data.parquet import ParquetSource
from idm_ray.errors import DataError
from idm_ray.local_disk import list_files
from idm_ray.storage import Location

_DIGITS = "digits"


def find_source(config: DataConfig) -> Source:
    """Find the source that `config.data` names.

    Raises:
        DataError: There is no such word or path, or nothing in it can be a source.
    """
    try:
        return _find(config)
    except OSError as error:
        raise DataError(
            f"cannot read {str(error.filename)!r} ({error.strerror}): check the path and its "
            "permissions"
        ) from error


def locate(written: str) -> str:
    """The source as every process finds it, wherever it runs: the word, absolute path or URI."""
    return written if written == _DIGITS else Location.at(written).address


def source_bytes(written: str) -> int:
    """Size of all files of a source, which are read once to decode them; 0 if it is embedded."""
    if written == _DIGITS:
        return 0
    place = Location.at(written)
    return sum(file.size for file in place.files()) if place.is_folder() else place.size()


def _find(config: DataConfig) -> Source:
    if config.data == _DIGITS:
        return DigitsSource()
    path = Path(locate(config.data))
    if path.is_dir():
        return _in_folder(path, config.test_fraction)
    if path.is_file() and path.suffix == ".parquet":
        return ParquetSource(path, [], config.test_fraction)
    if path.is_file():
        raise DataError(
            f"expected a folder or a *.parquet file, found the file {path}: give the folder that "
            "holds the class folders"
        )
    raise DataError(_not_found(config.data, path))


def _in_folder(path: Path, test_fraction: float) -> Source:
    files = list_files(path)
    parquet = [entry for entry in files if entry.path.endswith(".parquet")]
    if parquet:
        return ParquetSource(path, parquet, test_fraction)
    return FolderSource(path, files, test_fraction)


def _not_found(written: str, path: Path) -> str:
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(path.name, [_DIGITS, *siblings], n=1)
    if nearest:
        remedy = f"did you mean {str(Path(written).with_name(nearest[0]))!r}?"
    elif written in KNOWN:
        remedy = f"it is not downloaded; give the path of a folder with the images of {written}"
    else:
        remedy = "give the path of a folder with class folders or *.parquet files"
    return f"expected 'digits' or an existing path, found {written!r} (no such file): {remedy}"
