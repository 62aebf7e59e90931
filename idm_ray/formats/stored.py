"""A condensed set as arrays, and the sealed card that goes with it in every form but Parquet.

Parquet seals its columns as they lie in the file. Here the seal is over the numbers themselves, so
it holds in whatever container they come.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idm_ray.errors import CondensedSetError
from idm_ray.results.card import REMEDY, Card, seal, unseal
from idm_ray.results.pictures import from_uint8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredSet:
    """The images of a condensed set, with what they mean."""

    images: npt.NDArray[np.float32]
    """(N, C, H, W), normalised, unexpanded, sorted by class."""
    labels: npt.NDArray[np.int64]
    """(N,), ascending."""
    card: Card
    """Describes `images`."""


def sealed_card(card: Card, numbers: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> bytes:
    """Return the card as JSON, with the SHA-256 of itself and of the images.

    Args:
        card: of the set.
        numbers: (N, C, H, W), as they are stored: float32, or 0 ... 255.
    """
    return seal(card, _digest(numbers))


def labels_of(card: Card) -> npt.NDArray[np.int64]:
    """Return the label of each image, (N,), ascending."""
    return np.repeat(np.arange(len(card.class_names)), card.ipc)


def names_of(card: Card) -> list[str]:
    """Return a name for each image: label and rank among the images of its class."""
    return [f"{label:05d}_{row % card.ipc:04d}" for row, label in enumerate(labels_of(card))]


class Seal:
    """What a sealed card says of the images that come with it.

    Args:
        sealed: What `sealed_card` returned.

    Raises:
        CondensedSetError: Damaged, or of a newer format.
    """

    def __init__(self, sealed: bytes) -> None:
        self.card, self._sha256 = unseal(sealed)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W) of all images."""
        return (self.card.num_images, *self.card.image_shape)

    def expect(self, found: int, *, each: int) -> None:
        """Refuse a card that speaks of more images than there can be, before room is made for them.

        Args:
            found: bytes that there are.
            each: bytes that an image takes at least.

        Raises:
            CondensedSetError: There is not enough.
        """
        if self.card.num_images * each > found:
            raise CondensedSetError(
                f"expected {self.card.num_images} images, found only {found} bytes; {REMEDY}"
            )

    def check(
        self, numbers: npt.NDArray[np.float32] | npt.NDArray[np.uint8], labels: npt.ArrayLike
    ) -> StoredSet:
        """Check images and labels, as they are stored, against the seal.

        Returns:
            The set that they are.

        Raises:
            CondensedSetError: They are not those that were sealed.
        """
        card = self.card
        if numbers.shape != self.shape or _digest(numbers) != self._sha256:
            raise CondensedSetError(
                f"expected images that match their SHA-256, found others; {REMEDY}"
            )
        if not np.array_equal(labels, labels_of(card)):
            raise CondensedSetError(f"expected the labels of the card, found others; {REMEDY}")
        if numbers.dtype == np.uint8:
            images = from_uint8(numbers.astype(np.uint8), mean=card.mean, std=card.std)
        else:
            images = numbers.astype(np.float32, copy=False)
        if not np.isfinite(images).all():
            raise CondensedSetError("expected finite pixels, found NaN or infinity; condense anew")
        return StoredSet(images=images, labels=labels_of(card), card=card)


def _digest(numbers: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> str:
    """SHA-256 of the numbers in C order, little-endian."""
    stored = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return hashlib.sha256(stored.data).hexdigest()
