"""How something was made, and how to use it: what pages of runs and of others have in common."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from idm_ray.page.content import Code, Facts, Part, Text
from idm_ray.results.card import Card

_HASH_LETTERS = 12


def made_of(config: Mapping[str, Any], known: Sequence[tuple[str, str]] = ()) -> list[Part]:
    """What config.yaml says of how a run came about.

    Args:
        config: as `parse_config` gives it; what is missing is left out.
        known: what else there is to tell.
    """
    parts: list[Part] = [Facts(facts=[*known, *_origin(config)])]
    if command := config.get("command"):
        parts.append(Code(caption="The command", text=str(command)))
    options = [(name, value_text(value)) for name, value in config["options"].items()]
    return [*parts, Facts(summary=f"All {len(options)} settings", facts=options)]


def _origin(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, numerics = config["data"], config.get("numerics")
    facts = [
        ("Data", f"{data.get('name', 'data')}, fingerprint {data['fingerprint'][:_HASH_LETTERS]}")
    ]
    if processors := config.get("processors"):
        facts.append(("Processor", value_text(processors)))
    if isinstance(numerics, Mapping):
        facts.append(("Arithmetic", ", ".join(f"{k} {value_text(v)}" for k, v in numerics.items())))
    if isinstance(versions := config.get("versions"), Mapping):
        facts.append(("Versions", versions_text(versions)))
    return [*facts, ("Commit", str(config.get("commit") or "not known: an installed package"))]


def versions_text(versions: Mapping[str, Any]) -> str:
    """Packages with their versions."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def value_text(value: Any) -> str:
    """A value of a YAML or JSON file for people."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def use_of(folder: str, card: Card, data: str) -> list[Part]:
    """How to train on a set, to test it, and to hand it on.

    Args:
        folder: of the set's run, as a user would write it.
        card: of the set.
        data: source of the images that it was tested on.
    """
    place, source = shlex.quote(folder), shlex.quote(data)
    networks = ",".join(dict.fromkeys((card.network, "alexnet")))
    channels, height, width = card.image_shape
    python = f"""\
import idm_ray

synthetic = idm_ray.load({folder!r})
network = ...  # maps images ({channels} x {height} x {width}) to {len(card.class_names)} logits
synthetic.fit(network)  # {card.protocol["epochs"]} epochs, as it was tested

for image, label in synthetic.dataset():  # or a loop of your own
    ..."""
    return [
        Code(caption="Train on them", text=python),
        Code(
            caption="Test them on other networks",
            text=f"idm-ray evaluate {place} --data {source} --networks {shlex.quote(networks)}",
        ),
        Code(
            caption="Hand them on to those who have no idm_ray",
            text=f"idm-ray export {place} --out set.pt --expand",
        ),
        Text(text=card.usage),
    ]
