"""The real images that condensed ones are nearest to, by the distance of their pixels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from idm_ray.config import DataConfig, RunConfig
from idm_ray.data.dataset import ImageDataset, Split, open_dataset
from idm_ray.data.splits import spread
from idm_ray.data.torchvision_sets import TORCHVISION_SETS, TorchvisionSource
from idm_ray.errors import DataError
from idm_ray.formats.stored import StoredSet
from idm_ray.results.pictures import from_uint8
from idm_ray.storage import shown

# Of a class at most: so many tell what images are like.
_MOST_PER_CLASS: Final = 8
# Bytes of all pictures of neighbours, so that a page stays small.
_SHOWN_BYTES: Final = 8_000_000
# Bytes of real images that are looked at, all classes together: all of CIFAR-10, and of large
# images as many as are decoded in a minute.
_READ_BYTES: Final = 512_000_000
# Real images that are compared at once.
_CHUNK: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbours:
    """The nearest training images of the first condensed images of a class.

    Attributes:
        mosaics: for each condensed image, (C, l*H, l*W) uint8: the nearest images of its l x l
            tiles, each where its tile is.
        rows: the numbers of these images within their class, row by row of the tiles.
    """

    mosaics: tuple[npt.NDArray[np.uint8], ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Neighbours of a set by label, and how they were looked for, in a sentence."""

    by_label: Mapping[int, Neighbours]
    how: str


def find_neighbours(stored: StoredSet, config: Mapping[str, Any], data: str | None) -> Found:
    """Look for the nearest training images of a condensed set, each among those of its class.

    Tiles are enlarged first, as networks see them.

    Args:
        stored: the set.
        config: of its run, as `parse_config` gives it.
        data: where the images are now; None: where they were.

    Raises:
        DataError: the images cannot be read, or are not those of the run.
        StorageError: a remote store went on failing.
    """
    of_data = RunConfig.from_flat(config["options"]).data
    if data is not None:
        of_data = replace(of_data, data=data)
    _refuse_download(of_data)
    dataset = open_dataset(of_data)
    try:
        card, info = stored.card, dataset.info
        is_same = info.fingerprint == config["data"]["fingerprint"]
        if not is_same or (info.class_names, info.image_shape) != (
            card.class_names,
            card.image_shape,
        ):
            raise DataError(
                f"expected the images that the run was made of in {shown(of_data.data)}, found "
                "others; say with --data where they are"
            )
        return _find(stored, dataset)
    finally:
        if dataset.sharded is not None:
            dataset.sharded.close()


def _refuse_download(config: DataConfig) -> None:
    word = config.data
    if word in TORCHVISION_SETS and not TorchvisionSource(word, config.data_root).is_there:
        raise DataError(
            f"expected the files of {word} on this machine, found not all of them, and for a page "
            "nothing is downloaded; say with --data where the images are"
        )


def _find(stored: StoredSet, dataset: ImageDataset) -> Found:
    num_classes = len(stored.card.class_names)
    num_images = _num_shown(stored)
    # By number within its class: evenly, should there be too many to look at all of them.
    most = max(1, _READ_BYTES // (stored.card.num_pixels * num_classes))
    by_label = {
        label: _of_class(stored, label, num_images, dataset.train, most)
        for label in range(num_classes if num_images else 0)
    }
    counts = dataset.info.train_counts
    looked_at = (
        f"among {most:,} images of each class"
        if max(counts) > most
        else "among all training images of the class"
    )
    tiles = " Each tile is enlarged first, as networks see it." * (stored.card.partition > 1)
    return Found(
        by_label=by_label,
        how="On the left what was condensed, on the right real images. "
        f"Nearest is what has the smallest distance in normalised pixels, {looked_at}.{tiles}",
    )


def _num_shown(stored: StoredSet) -> int:
    """Images of each class whose neighbours are shown; none where classes are too many."""
    card = stored.card
    each = card.num_pixels * (1 + card.partition**2)
    return min(card.ipc, _MOST_PER_CLASS, _SHOWN_BYTES // (each * len(card.class_names)))


def _of_class(
    stored: StoredSet, label: int, num_images: int, train: Split, most: int
) -> Neighbours:
    card = stored.card
    first = label * card.ipc
    tiles = _as_networks_see(stored.images[first : first + num_images], card.partition)
    class_rows = train.class_rows(label)
    looked_at = spread(len(class_rows), most)
    batches = (
        from_uint8(train.images.take(class_rows.start + numbers), mean=card.mean, std=card.std)
        for numbers in np.split(looked_at, range(_CHUNK, len(looked_at), _CHUNK))
    )
    nearest = looked_at[nearest_places(tiles, batches)]
    real = train.images.take(class_rows.start + nearest)
    per_image = card.partition**2
    parts = [slice(at, at + per_image) for at in range(0, len(real), per_image)]
    return Neighbours(
        mosaics=tuple(_mosaic(real[part], card.partition) for part in parts),
        rows=tuple(tuple(nearest[part].tolist()) for part in parts),
    )


def nearest_places(
    images: npt.NDArray[np.float32], batches: Iterable[npt.NDArray[np.float32]]
) -> npt.NDArray[np.int64]:
    """Find the nearest of other images for each image, by squared distance of their pixels.

    Args:
        images: (N, C, H, W).
        batches: of the others, (B, C, H, W) each; at least one image in all.

    Returns:
        (N,), places among the others in their order; the first of several as near.
    """
    wanted = images.reshape(len(images), -1)
    nearest = np.zeros(len(images), np.int64)
    smallest = np.full(len(images), np.inf, np.float32)
    first = 0
    for batch in batches:
        others = batch.reshape(len(batch), -1)
        # Without the square of the image itself, which is the same for all others.
        distances = (others**2).sum(axis=1) - 2 * wanted @ others.T
        place = distances.argmin(axis=1)
        distance = distances[np.arange(len(wanted)), place]
        is_nearer = distance < smallest
        nearest[is_nearer] = first + place[is_nearer]
        smallest[is_nearer] = distance[is_nearer]
        first += len(others)
    return nearest


def _as_networks_see(images: npt.NDArray[np.float32], partition: int) -> npt.NDArray[np.float32]:
    """The enlarged tiles (N*l*l, C, H, W) of images."""
    import torch  # noqa: PLC0415 -- a page without neighbours needs none

    from idm_ray.algorithm.expansion import expand  # noqa: PLC0415

    expanded: npt.NDArray[np.float32] = expand(torch.from_numpy(images), partition).numpy()
    return expanded


def _mosaic(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Images (l*l, C, H, W) as one (C, l*H, l*W), row by row."""
    _, channels, height, width = images.shape
    grid = images.reshape(side, side, channels, height, width)
    return grid.transpose(2, 0, 3, 1, 4).reshape(channels, side * height, side * width)
