"""From what the user wrote after --data to a source of images."""

import difflib
from pathlib import Path

from idm_ray.config import DataConfig
from idm_ray.data.classes import ClassSubset, parse_classes
from idm_ray.data.digits import DigitsSource
from idm_ray.data.folder import FolderSource
from idm_ray.data.imagenet import TRAIN_TAR, ImageNetSource
from idm_ray.data.known import KNOWN
from idm_ray.data.listing import Source
from idm_ray.data.parquet import ParquetSource
from idm_ray.data.shard_source import ShardSource, find_shards
from idm_ray.data.tiny_imagenet import TinyImageNetSource, is_tiny_imagenet
from idm_ray.data.torchvision_sets import TORCHVISION_SETS, TorchvisionSource
from idm_ray.errors import DataError
from idm_ray.local_disk import list_files
from idm_ray.storage import Location

_DIGITS = "digits"
WORDS = (_DIGITS, *TORCHVISION_SETS)
"""What names a source by itself; a folder of the same name is given as a path, ./cifar10."""


def find_source(config: DataConfig) -> Source:
    """Find the source that `config.data` names, cut down to `config.classes`.

    Raises:
        DataError: There is no such word or path, or nothing in it can be a source; or the classes
            are not written as they should be.
    """
    try:
        source = _find(config)
        if config.label_column is not None and not isinstance(source, ParquetSource):
            raise DataError(
                f"expected Parquet files for --label-column, found other data in {config.data!r}: "
                "leave it out"
            )
        if config.classes is None:
            return source
        return ClassSubset(source, parse_classes(config.classes))
    except OSError as error:
        raise DataError(
            f"cannot read {str(error.filename)!r} ({error.strerror}): check the path and its "
            "permissions"
        ) from error


def locate(written: str) -> str:
    """The source as every process finds it, wherever it runs: the word, absolute path or URI."""
    return written if written in WORDS else Location.at(written).address


def source_bytes(config: DataConfig) -> int:
    """Size of all files of a source, which are read once to decode them; 0 if it is embedded."""
    if config.data == _DIGITS:
        return 0
    if config.data in TORCHVISION_SETS:
        return TorchvisionSource(config.data, config.data_root).num_bytes
    shards = find_shards(config)
    if shards is not None:
        return sum(shard.size for shard in shards.manifest.shards)
    place = Location.at(config.data)
    return sum(file.size for file in place.files()) if place.is_folder() else place.size()


def _find(config: DataConfig) -> Source:
    if config.data == _DIGITS:
        return DigitsSource()
    if config.data in TORCHVISION_SETS:
        return TorchvisionSource(config.data, config.data_root)
    shards = find_shards(config)
    if shards is not None:
        return ShardSource(shards)
    path = Path(locate(config.data))
    return _in_folder(path, config) if path.is_dir() else _in_file(path, config)


def _in_file(path: Path, config: DataConfig) -> Source:
    if path.is_file() and path.name == TRAIN_TAR:
        return ImageNetSource(path.parent, config.test_fraction)
    if path.is_file() and path.suffix == ".parquet":
        return ParquetSource(path, [], config.test_fraction, config.label_column)
    if path.is_file():
        raise DataError(
            f"expected a folder, a *.parquet or a *.tar file, found the file {path}: give the "
            "folder that holds the class folders"
        )
    raise DataError(_not_found(config.data, path))


def _in_folder(path: Path, config: DataConfig) -> Source:
    test_fraction = config.test_fraction
    if (path / TRAIN_TAR).is_file():
        return ImageNetSource(path, test_fraction)
    files = list_files(path)
    parquet = [entry for entry in files if entry.path.endswith(".parquet")]
    if parquet:
        return ParquetSource(path, parquet, test_fraction, config.label_column)
    if is_tiny_imagenet(path):
        return TinyImageNetSource(path, files)
    return FolderSource(path, files, test_fraction)


def _not_found(written: str, path: Path) -> str:
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(path.name, [*WORDS, *siblings], n=1)
    if nearest:
        remedy = f"did you mean {str(Path(written).with_name(nearest[0]))!r}?"
    elif written in KNOWN:
        remedy = f"it is not downloaded; give the path of a folder with the images of {written}"
    else:
        remedy = "give the path of a folder with class folders or *.parquet files"
    return (
        f"expected {', '.join(WORDS)} or an existing path, found {written!r} (no such file): "
        f"{remedy}"
    )
