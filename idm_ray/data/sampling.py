"""Which rows are drawn when: every draw follows from its key alone.

A key is (seed, purpose, iteration, class) or the like. Nothing here remembers anything, so a draw
does not depend on what was drawn before, in which process, or how often a run was resumed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.dataset import Split
from idm_ray.keys import seed_from

Rows = NDArray[np.int64]


def random_generator(*key: int | str) -> np.random.Generator:
    """Make the random generator that belongs to a key.

    Args:
        key: For example `(seed, "real", iteration, class)`. Different keys give independent
            generators; equal keys give equal draws on every machine.

    Raises:
        TypeError: A part of the key is neither a whole number nor a string.
    """
    return np.random.Generator(np.random.PCG64(seed_from(*key)))


def draw_rows(rows: int, count: int, rng: np.random.Generator) -> Rows:
    """Draw row numbers uniformly and without replacement.

    Args:
        rows: How many there are, 0..rows-1. A million cost no more than ten thousand.
        count: How many to draw.
        rng: Where the randomness comes from; it is advanced.

    Returns:
        (min(count, rows),) int64, in random order.
    """
    return rng.choice(rows, size=min(count, rows), replace=False)


def real_batch_rows(split: Split, c: int, batch_real: int, *, seed: int, iteration: int) -> Rows:
    """Draw the real images that class `c` is matched against in one iteration.

    Returns:
        (min(batch_real, images of the class),) int64 rows of the split, without replacement; the
        whole class in order when `batch_real` reaches its size.
    """
    rows = split.class_rows(c)
    if batch_real >= len(rows):
        return np.arange(rows.start, rows.stop, dtype=np.int64)
    return rows.start + draw_rows(
        len(rows), batch_real, random_generator(seed, "real", iteration, c)
    )


def train_batch_rows(
    split: Split,
    batch_train: int,
    *,
    classes: Sequence[int],
    seed: int,
    model: int,
    step: int,
) -> Rows:
    """Draw the real images of one training step of one model.

    Args:
        split: The training images.
        batch_train: How many to draw.
        classes: Labels of the classes to draw from, ascending.
        seed: Of the run.
        model: Id of the model.
        step: Of that model.

    Returns:
        (min(batch_train, images of the classes),) int64 rows of the split, uniform and without
        replacement. Each step draws afresh: there are no epochs and classes are not balanced.
    """
    firsts, counts = split.offsets[list(classes)], np.diff(split.offsets)[list(classes)]
    ends = np.cumsum(counts)
    rng = random_generator(seed, "train", model, step)
    drawn = draw_rows(int(ends[-1]), batch_train, rng)
    # From numbers within the classes taken together to rows of all.
    moved: Rows = firsts - (ends - counts)
    return drawn + moved[np.searchsorted(ends, drawn, side="right")]


def pretrain_batch_rows(
    split: Split, batch_train: int, *, seed: int, member: int, step: int
) -> Rows:
    """Draw the real images of one training step of one pretrained network, over all classes.

    Returns:
        (min(batch_train, images),) int64 rows of the split, as `train_batch_rows` draws them.
    """
    rng = random_generator(seed, "pretrain", member, step)
    return draw_rows(len(split.images), batch_train, rng)


def start_rows(split: Split, c: int, count: int, *, seed: int) -> Rows:
    """Draw the real images that the synthetic images of class `c` start from.

    Returns:
        (count,) int64 rows of the split, all different; where the class has fewer than `count`
        images, whole random passes over it one after another.
    """
    return _class_passes(split, c, count, random_generator(seed, "start", c))


def random_set_rows(split: Split, c: int, ipc: int, *, seed: int) -> Rows:
    """Draw class `c` of the baseline "random real images", independently of every start.

    Returns:
        (ipc,) int64 rows of the split, all different as far as the class allows.
    """
    return _class_passes(split, c, ipc, random_generator(seed, "random set", c))


def _class_passes(split: Split, c: int, count: int, rng: np.random.Generator) -> Rows:
    rows = split.class_rows(c)
    passes = [draw_rows(len(rows), count - drawn, rng) for drawn in range(0, count, len(rows))]
    return rows.start + np.concatenate(passes)
