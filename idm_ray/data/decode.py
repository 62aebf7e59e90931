"""From an encoded image to uint8 pixels: orientation, colour modes, resizing."""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from idm_ray.data.listing import EncodedImage
from idm_ray.errors import DataError

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_STEPS_16_TO_8 = 257  # 65535 / 255


class UnreadableImageError(DataError):
    """One image cannot be decoded; it is left out and counted."""


def decode(encoded: EncodedImage, size: int | None) -> NDArray[np.uint8]:
    """Decode one image, upright, in grey or RGB.

    Args:
        encoded: The image.
        size: Side of the square that is cut out of its centre and resized, as if the shorter side
            were resized to `size` and the rest cropped; None keeps the image as it is.

    Returns:
        uint8 pixels, (1, H, W) when the file is grey and (3, H, W) otherwise. Transparent pixels
        show white; 16 bits are scaled to 8; of an animation this is the first frame.

    Raises:
        UnreadableImageError: The bytes are no image, damaged, or of more pixels than Pillow's limit
            against decompression bombs.
    """
    try:
        with encoded.open() as image:
            _refuse_bomb(image)
            ImageOps.exif_transpose(image, in_place=True)
            plain = _to_grey(image) if image.mode in _GREY_MODES else _to_rgb(image)
            pixels = np.asarray(plain if size is None else _center_square(plain, size))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged bytes
        raise UnreadableImageError(f"cannot read {encoded.name}: {_reason(error)}") from error
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def ignore_pillow_warnings() -> None:
    """Have this process print none of Pillow's warnings: what matters is refused by `decode`.

    For good, since filters belong to the process and decoding threads outlive any block of code.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _refuse_bomb(image: Image.Image) -> None:
    """Refuse what Pillow only warns of; it refuses itself what is twice as large."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(
            f"{image.width}x{image.height} pixels are more than {limit}, which could be a "
            "decompression bomb"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own words hold a memory address
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.round(wide / _STEPS_16_TO_8), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        return _on_white(image).convert("L")
    return image.convert("L")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _center_square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    if image.size == (size, size):
        return image
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Only the square is resampled: resizing first would blow up a very long image.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
