"""Which images are for training, for validation and for testing, when the source does not say."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from idm_ray.checks import is_utf8
from idm_ray.data.listing import Listing, some_names
from idm_ray.errors import DataError
from idm_ray.keys import seed_from

_HOLD_OUT_SEED = 20230601
"""Fixed: what is held out of a source must never change with a run's seed."""

_SHOWN = 3
"""Of classes that a message is about: the first few are named, the rest are counted."""


def hold_out(labels: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Choose the same share of every class to be held out.

    Args:
        labels: (N,) int64, in the source's order.
        fraction: Share of each class, in (0, 1). At least one image of a class is held out, and at
            least one stays.

    Returns:
        (N,) bool, True for an image held out: a function of labels and fraction alone.
    """
    is_test = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
        rng = np.random.Generator(np.random.PCG64([_HOLD_OUT_SEED, int(label)]))
        is_test[rng.permutation(rows)[:count]] = True
    return is_test


def hold_out_validation(
    class_names: Sequence[str], train_counts: Sequence[int], fraction: float
) -> NDArray[np.bool_]:
    """Choose the same share of every class's training images as validation images.

    Args:
        class_names: One or more.
        train_counts: Images of each class.
        fraction: As in `hold_out`.

    Returns:
        (sum of train_counts,) bool, True for a validation image, sorted by class: in each class a
        function of its name, its count and the fraction, whatever other classes there are.

    Raises:
        DataError: No class has an image to spare.
    """
    is_validation = np.concatenate(
        [
            hold_out(np.full(count, seed_from("validation", name)), fraction)
            for name, count in zip(class_names, train_counts, strict=True)
        ]
    )
    if not is_validation.any():
        raise DataError(
            f"expected training images to hold out for validation (val_fraction {fraction:g}), "
            "found one of each class: add images, or set val_fraction 0"
        )
    return is_validation


def train_rows(listing: Listing, limit_per_class: int | None) -> NDArray[np.int64]:
    """List the training images, at most `limit_per_class` of each class.

    Returns:
        Ascending positions in the listing. With a limit they are spread evenly over the class's
        images, so that sources sorted by a hidden property (author, time) are not cut to one end.
    """
    rows = np.flatnonzero(~listing.is_test)
    if limit_per_class is None:
        return rows
    labels = listing.labels[rows]
    of_classes = [rows[labels == label] for label in np.unique(labels)]
    chosen = [some[spread(len(some), limit_per_class)] for some in of_classes]
    return np.sort(np.concatenate(chosen)) if chosen else rows


def check_counts(
    class_names: tuple[str, ...], train_counts: NDArray[np.int64], test_counts: NDArray[np.int64]
) -> None:
    """Refuse data that cannot be condensed or evaluated.

    Args:
        class_names: One or more.
        train_counts: (num_classes,) training images of each class.
        test_counts: (num_classes,) test images of each class.

    Raises:
        DataError: There is one class only, a class without training images, one whose name is no
            text, or no test image.
    """
    if len(class_names) < 2:
        raise DataError(
            f"expected two or more classes, found {len(class_names)} ({', '.join(class_names)}): "
            "give a folder with one folder per class below it, or a file with more labels"
        )
    empty = [name for name, count in zip(class_names, train_counts, strict=True) if count == 0]
    if empty:
        which, it = ("class", "the class") if len(empty) == 1 else ("classes", "them")
        raise DataError(
            f"expected training images of every class, found none of {which} {some_names(empty)}: "
            f"add images, or leave {it} out with --classes"
        )
    for name in class_names:
        if not is_utf8(name):
            raise DataError(
                f"expected class names in UTF-8, found {name!r}: rename its folder, or leave it "
                "out with --classes"
            )
    if test_counts.sum() == 0:
        raise DataError(
            "expected test images, found none: add a val/ or test/ split, or give more than one "
            "image per class so that some can be held out"
        )


def check_usable(
    class_names: tuple[str, ...],
    train_counts: NDArray[np.int64],
    test_counts: NDArray[np.int64],
    *,
    skipped: int,
    problems: Sequence[str],
) -> None:
    """As `check_counts`, of the images that could be read.

    Args:
        class_names: As there.
        train_counts: As there.
        test_counts: As there.
        skipped: Images that were left out.
        problems: Why, for the first few of them at least.
    """
    try:
        check_counts(class_names, train_counts, test_counts)
    except DataError as error:
        if not skipped:
            raise
        raise DataError(
            f"{error} ({skipped} images were left out, the first: {problems[0]})"
        ) from error


def refuse_left_out(skipped: int, problems: Sequence[str]) -> None:
    """Refuse data of which images were left out, for those who want none to be (--strict).

    Args:
        skipped: How many.
        problems: Why, for the first few of them at least.

    Raises:
        DataError: There are some.
    """
    if skipped:
        raise DataError(
            f"expected only usable images, found {skipped} that are not (the first: "
            f"{problems[0]}): mend or remove them, or leave out --strict"
        )


def repeated_start(
    class_names: Sequence[str], train_counts: Sequence[int], needed: int, *, strict: bool
) -> str | None:
    """Find classes that the start of the synthetic images takes some image of more than once.

    Args:
        class_names: One or more.
        train_counts: Images of each class.
        needed: Images of each class that the start takes.
        strict: Refuse such classes.

    Returns:
        What there is to tell of them; None if every class has enough images.

    Raises:
        DataError: There are some, and `strict` is on.
    """
    few = [
        f"{count} of class {name!r}"
        for name, count in zip(class_names, train_counts, strict=True)
        if count < needed
    ]
    if not few:
        return None
    found = ", ".join(few[:_SHOWN]) + (f" and {len(few) - _SHOWN} more" if few[_SHOWN:] else "")
    if strict:
        raise DataError(
            f"expected {needed} training images of each class for the start, found {found}: add "
            "images, lower ipc or partition, or leave out --strict to draw some more than once"
        )
    return (
        f"the start takes {needed} training images of each class, found {found}: some are drawn "
        "more than once"
    )


def spread(total: int, limit: int | None) -> NDArray[np.int64]:
    """Choose at most `limit` of `total` images, evenly spread.

    Returns:
        Ascending positions in 0..total-1.
    """
    count = total if limit is None else min(limit, total)
    return np.arange(count, dtype=np.int64) * total // max(count, 1)
