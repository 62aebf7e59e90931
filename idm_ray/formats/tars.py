"""A condensed set as WebDataset tars, each image as PNG and as its exact numbers."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from idm_ray.errors import CondensedSetError
from idm_ray.formats.card_file import CARD_FILE, README_FILE, card_file, readme_file
from idm_ray.formats.forms import WEBDATASET
from idm_ray.formats.stored import Seal, StoredSet, names_of, sealed_card
from idm_ray.results.card import REMEDY, Card
from idm_ray.results.pictures import encode_png, to_uint8
from idm_ray.storage import Location

_TAR: Final = re.compile(r"\d{6}\.tar")
# About as much as a tar holds, so that a set of many images is read by several processes.
_TAR_BYTES: Final = 2**26
# Most that a label, and the header of an array, take in a tar.
_LABEL_BYTES: Final = 20
_HEADER_BYTES: Final = 2**16

_LOADING: Final = """import webdataset

samples = webdataset.WebDataset("{urls}", shardshuffle=False)
images = samples.decode("torchrgb").to_tuple("npy", "cls")"""


def files(stored: StoredSet) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files, the card last."""
    card = stored.card
    per_tar = _images_per_tar(card)
    rows = _order(card)
    starts = range(0, len(rows), per_tar)
    for number, start in enumerate(starts):
        yield _name(number), _tar(stored, rows[start : start + per_tar])
    last = _name(len(starts) - 1).removesuffix(".tar")
    urls = f"{{000000..{last}}}.tar" if len(starts) > 1 else f"{last}.tar"
    yield readme_file(
        card,
        "Each sample of a tar has `cls`, its label, `png`, its picture, and `npy`, its exact "
        "numbers: float32 in CHW order, normalised. Classes take turns.",
        _LOADING.format(urls=urls),
    )
    yield card_file(WEBDATASET, sealed_card(card, stored.images))


def read(folder: Location, seal: Seal) -> StoredSet:
    """Read the exact numbers back, verified.

    Raises:
        CondensedSetError: A tar is missing, damaged or changed.
    """
    card = seal.card
    paths = sorted(file.path for file in folder.files() if file.path.endswith(".tar"))
    seal.expect(sum((folder / path).size() for path in paths), each=4 * card.num_pixels)
    row_of = {name: row for row, name in enumerate(names_of(card))}
    images = np.zeros(seal.shape, np.float32)
    labels = np.full(card.num_images, -1)
    for path in paths:
        # Not compressed: what is read can be no larger than what is there.
        with (folder / path).open_stream() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix == "npy":
                    images[row_of[key]] = _read_numbers(tar, member, card)
                elif suffix == "cls":
                    labels[row_of[key]] = int(_read(tar, member, limit=_LABEL_BYTES))
    return seal.check(images, labels)


def parts(card: Card) -> Callable[[str], bool]:
    """Return what tells the files of a folder with this card, by their paths, from others."""
    return lambda path: path in (README_FILE, CARD_FILE) or bool(_TAR.fullmatch(path))


def _tar(stored: StoredSet, rows: npt.NDArray[np.int64]) -> bytes:
    """Return a tar of some images; equal images give equal bytes."""
    from webdataset import TarWriter  # noqa: PLC0415 -- it brings torch along

    card, names = stored.card, names_of(stored.card)
    target = io.BytesIO()
    with TarWriter(target, encoder=False, mtime=0, user="idm_ray", group="idm_ray") as tar:
        for row in rows:
            image = stored.images[row]
            picture = to_uint8(image[None], mean=card.mean, std=card.std)[0]
            tar.write(
                {
                    "__key__": names[row],
                    "cls": str(stored.labels[row]).encode(),
                    "npy": _numbers(image),
                    "png": encode_png(picture),
                }
            )
    return target.getvalue()


def _order(card: Card) -> npt.NDArray[np.int64]:
    """Rows such that classes take turns: readers shuffle little of a stream."""
    return np.arange(card.num_images).reshape(len(card.class_names), card.ipc).T.reshape(-1)


def _images_per_tar(card: Card) -> int:
    return max(1, _TAR_BYTES // (5 * card.num_pixels))


def _name(number: int) -> str:
    return f"{number:06d}.tar"


def _numbers(image: npt.NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, image, allow_pickle=False)
    return file.getvalue()


def _read_numbers(
    tar: tarfile.TarFile, member: tarfile.TarInfo, card: Card
) -> npt.NDArray[np.float32]:
    """Return one image (C, H, W) of a tar."""
    content = _read(tar, member, limit=4 * card.num_pixels + _HEADER_BYTES)
    image: npt.NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    if image.dtype != np.float32 or image.shape != card.image_shape:
        raise CondensedSetError(
            f"expected float32 {card.image_shape} as {member.name}, found {image.dtype} "
            f"{image.shape}; {REMEDY}"
        )
    return image


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, *, limit: int) -> bytes:
    file = tar.extractfile(member)
    if file is None or member.size > limit:
        raise CondensedSetError(
            f"expected {member.name} of at most {limit} bytes, found another; {REMEDY}"
        )
    return file.read()
