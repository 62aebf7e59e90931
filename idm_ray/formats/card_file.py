"""The two files beside the images where a condensed set is a folder: card.json and README.md."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from idm_ray.errors import CondensedSetError
from idm_ray.formats.stored import Seal
from idm_ray.results.card import REMEDY, Card
from idm_ray.storage import Location

CARD_FILE: Final = "card.json"
README_FILE: Final = "README.md"


def card_file(form: str, sealed: bytes) -> tuple[str, bytes]:
    """Return name and content of the file that says what the folder holds.

    Args:
        form: the folder's form.
        sealed: the sealed card.
    """
    content = {"form": form, "card": json.loads(sealed)}
    return CARD_FILE, json.dumps(content, indent=1, ensure_ascii=False).encode()


def read_card_file(folder: Location) -> tuple[str, Seal]:
    """Return the form of a folder, and its seal.

    Raises:
        CondensedSetError: There is no such file, or it is damaged.
    """
    try:
        content = json.loads((folder / CARD_FILE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise CondensedSetError(f"expected JSON in {CARD_FILE}, found {error}; {REMEDY}") from error
    if not isinstance(content, Mapping) or not {"form", "card"} <= content.keys():
        raise CondensedSetError(f"expected form and card in {CARD_FILE}, found others; {REMEDY}")
    return str(content["form"]), Seal(json.dumps(content["card"]).encode())


def readme_file(card: Card, layout: str, loading: str) -> tuple[str, bytes]:
    """Return name and content of the text for whoever gets the folder.

    Args:
        card: of the set.
        layout: where the images are, and what is lost in this form.
        loading: Python that loads them.
    """
    shape = "x".join(map(str, card.image_shape))
    texts = [
        f"{card.num_images} synthetic images of {shape}, {card.ipc} for each of "
        f"{len(card.class_names)} classes, made of {card.source['name']} by {card.method} with "
        f"idm_ray {card.versions['idm_ray']}.",
        layout,
        card.usage,
        f"```python\n{loading}\n```",
        '`idm_ray.load(".")` reads this folder and checks that no image or label is missing or '
        "changed; its `fit(network)` trains by the protocol of the set. "
        f"{_tested(card.evaluation)} "
        f"`{CARD_FILE}` holds all that is known of it.",
    ]
    texts = [_printable(text) for text in texts]
    wrapped = [text if text.startswith("```") else textwrap.fill(text, 100) for text in texts]
    return README_FILE, ("\n\n".join(["# Condensed images", *wrapped]) + "\n").encode()


def _tested(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None or not {"network", "mean", "epochs"} <= evaluation.keys():
        return "It was not tested in this form: `idm-ray evaluate` does it."
    return (
        f"By it, {evaluation['network']} reached {100 * evaluation['mean']:.1f} % accuracy in "
        f"{evaluation['epochs']} epochs."
    )


def _printable(text: str) -> str:
    """Names come from strangers, and may hold what moves a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
