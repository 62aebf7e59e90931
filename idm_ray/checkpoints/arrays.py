"""Arrays of a run as the content of files, and back: safetensors, little-endian, in C order.

Knows no places; what is read here has the right checksum, and is checked all the same.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from idm_ray.algorithm.state import FloatArray, GroupState, ModelVersion, Pretrained
from idm_ray.errors import CheckpointError

_Array = np.ndarray[Any, np.dtype[Any]]
_COPY: Final = re.compile(r"copy-(0|[1-9][0-9]{0,17})")


def pack_group(state: GroupState) -> bytes:
    """Return the content of a group's file; its iteration is kept elsewhere."""
    copies = {f"copy-{iteration}": images for iteration, images in state.copies.items()}
    losses = {"losses": state.losses} if state.losses.size else {}
    return _packed({"images": state.images, "velocity": state.velocity, **copies, **losses})


def unpack_group(iteration: int, content: bytes) -> GroupState:
    """Return what was packed, in arrays that may be written to.

    Raises:
        CheckpointError: it is no group; does not name the file.
    """
    arrays = _unpacked(content)
    losses = arrays.pop("losses", np.zeros((2, 0, 0), np.float32))
    copies = {int(found[1]): found[0] for name in arrays if (found := _COPY.fullmatch(name))}
    _check(arrays, ("images", "velocity", *copies.values()), ndim=5)
    shape = (2, losses.size // (2 * len(arrays["images"])), len(arrays["images"]))
    if losses.dtype != np.float32 or (losses.size and losses.shape != shape):
        raise CheckpointError(
            f"expected float32 losses of {shape[2]} classes, found {_shown(losses)}"
        )
    return GroupState(
        iteration=iteration,
        images=arrays["images"],
        velocity=arrays["velocity"],
        copies={at: arrays[name] for at, name in sorted(copies.items())},
        losses=losses,
    )


def pack_model(version: ModelVersion) -> bytes:
    """Return the content of a model's file."""
    return _packed({"weights": version.weights, "velocity": version.velocity})


def unpack_model(content: bytes) -> ModelVersion:
    """Return what was packed, in arrays that may be written to.

    Raises:
        CheckpointError: it is no model; does not name the file.
    """
    arrays = _unpacked(content)
    _check(arrays, ("weights", "velocity"), ndim=1)
    return ModelVersion(weights=arrays["weights"], velocity=arrays["velocity"])


def pack_pretrained(network: Pretrained) -> bytes:
    """Return the content of a pretrained network's file."""
    counts = np.array([network.images, network.correct], "<i8")
    return _packed({"weights": network.weights}, counts=counts)


def unpack_pretrained(content: bytes) -> Pretrained:
    """Return what was packed, in arrays that may be written to.

    Raises:
        CheckpointError: it is no pretrained network; does not name the file.
    """
    arrays = _unpacked(content)
    counts = arrays.pop("counts", np.empty(0))
    _check(arrays, ("weights",), ndim=1)
    if counts.dtype != np.int64 or counts.shape != (2,):
        raise CheckpointError(f"expected two whole numbers in 'counts', found {_shown(counts)}")
    images, correct = counts.tolist()
    if not 0 <= correct <= images or not images:
        raise CheckpointError(f"expected counts of images, found {correct} of {images} correct")
    return Pretrained(weights=arrays["weights"], images=images, correct=correct)


def _packed(arrays: Mapping[str, FloatArray], **others: _Array) -> bytes:
    # Written as it lies in memory, whatever its strides: so it has to be in C order. Another type
    # is refused here, since nobody could read it.
    ordered = {
        name: array.astype("<f4", order="C", casting="equiv", copy=False)
        for name, array in arrays.items()
    }
    return save({**ordered, **others})


def _unpacked(content: bytes) -> dict[str, _Array]:
    try:
        return load(content)
    # Types that NumPy does not have, and shapes that it cannot make, raise the rest.
    except (SafetensorError, LookupError, OverflowError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"expected arrays in safetensors, found none ({reason})") from error


def _check(arrays: Mapping[str, _Array], names: Collection[str], *, ndim: int) -> None:
    """Refuse anything but float32 arrays of these names and one shape, with numbers in them."""
    if arrays.keys() != set(names):
        raise CheckpointError(
            f"expected the arrays {', '.join(sorted(names))}, found {sorted(arrays)!s:.80}"
        )
    shape = arrays[next(iter(names))].shape
    for name, array in arrays.items():
        is_known = array.dtype == np.float32 and array.ndim == ndim
        if not is_known or array.shape != shape or not array.size:
            raise CheckpointError(
                f"expected float32 numbers in {ndim} dimensions, as many in all arrays, found "
                f"{_shown(array)} in {name!r}"
            )


def _shown(array: _Array) -> str:
    return f"{array.dtype} of shape {array.shape}"
