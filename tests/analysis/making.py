"""Condensed sets made by hand, out of real digits."""

import numpy as np

from idm_ray.results.condensed import write_condensed
from tests.making_runs import plan_of
from tests.results.sets import make_card

IPC = 3


def digits_plan(**options):
    """A settled plan on the digits, and the data."""
    return plan_of(partition=1, **options)


def digit_images(info, dataset, ipc=IPC):
    """The first training images of each class, normalised, (10 * ipc, 1, 8, 8)."""
    rows = np.concatenate([dataset.train.class_rows(c)[:ipc] for c in range(10)])
    pixels = dataset.train.images.take(rows) / 255
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (info.mean, info.std))
    return ((pixels - mean) / std).astype(np.float32)


def digits_card(info, **changes):
    fields = {
        "image_shape": info.image_shape,
        "mean": info.mean,
        "std": info.std,
        "class_names": info.class_names,
        "network": "convnet-2",
        "partition": 1,
        "ipc": IPC,
        "flips": False,
    }
    return make_card(**{**fields, **changes})


def write_set(path, images, card):
    """Write a set of images that are sorted by class; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(len(card.class_names)), card.ipc)
    write_condensed(path, images=images, labels=labels, card=card)
    return path


def write_real_digits(path, *, shift=0, **changes):
    """A set of real training images, each under the class that is `shift` behind its own."""
    plan, dataset = digits_plan(limit_per_class=None)
    card = digits_card(plan.info, **changes)
    images = digit_images(plan.info, dataset, card.ipc)
    return write_set(path, np.roll(images, shift * card.ipc, axis=0), card)
