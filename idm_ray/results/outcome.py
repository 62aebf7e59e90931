"""Writes what a run has made, the set and its picture, into its folder."""

from pathlib import Path
from typing import Any

import numpy as np

from idm_ray.results.card import Card
from idm_ray.results.condensed import write_condensed
from idm_ray.results.gallery import write_gallery
from idm_ray.results.run_folder import RunFolder

Images = np.ndarray[Any, np.dtype[np.float32]]


def write_results(folder: Path, images: Images, card: Card) -> None:
    """Write the condensed set and its gallery.

    Args:
        folder: of the run.
        images: (N, C, H, W) normalised, sorted by class.
        card: what the set says of itself.
    """
    run = RunFolder(folder)
    write_condensed(run.condensed_path, images=images, labels=_labels(card), card=card)
    write_gallery(
        run.gallery_path,
        images=images,
        labels=_labels(card),
        class_names=card.class_names,
        mean=card.mean,
        std=card.std,
        title=title_of(card),
    )


def write_selected(folder: Path, images: Images, card: Card) -> None:
    """Write the selected iterate beside the condensed set; arguments as for `write_results`."""
    path = RunFolder(folder).selected_path
    write_condensed(path, images=images, labels=_labels(card), card=card)


def _labels(card: Card) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.repeat(np.arange(len(card.class_names)), card.ipc)


def title_of(card: Card) -> str:
    """What stands above pictures of a run."""
    return f"{card.source['name']}, {card.method}, {card.ipc} per class"
