"""The folder of a comparison: what it is of, in comparison.yaml, and whether it may be used."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from idm_ray.comparison.files import FILES
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import UserError
from idm_ray.results.run_files import holds_run
from idm_ray.storage import Location

REQUEST: Final = "comparison.yaml"

# What all cells have in common beside their images: how networks are trained, and in what numbers.
_SHARED: Final = (
    *("lr_net", "batch_train", "flips"),
    *("device", "precision", "compile", "images_per_pass", "threads"),
)


def check_folder(folder: Location, config: RunConfig, info: DatasetInfo) -> None:
    """Refuse a folder of something else, or of a comparison that others do not belong to.

    Args:
        folder: that is to be used.
        config: of a run without a method's own settings.
        info: of the data.

    Raises:
        UserError: says what there is.
    """
    if holds_run(folder):
        raise UserError(
            f"expected a folder for a comparison, found a run in {folder}; choose another --out"
        )
    place = folder / REQUEST
    if not place.exists():
        for name in FILES:
            if (folder / name).exists():
                raise UserError(
                    f"expected a new folder or one of a comparison, found {name} of something "
                    f"else in {folder}; choose another --out"
                )
        return
    stored, now = _read(place), _content(config, info)
    if stored["fingerprint"] != now["fingerprint"]:
        raise UserError(
            f"the comparison in {folder} is of other images: {stored['data']} "
            f"({stored['fingerprint'][:12]}) there, {info.name} ({info.fingerprint[:12]}) now; "
            "choose another --out"
        )
    differing = [name for name in _SHARED if stored["shared"][name] != now["shared"][name]]
    if differing:
        found = "; ".join(
            f"{name} {stored['shared'][name]} there, {now['shared'][name]} now"
            for name in differing
        )
        raise UserError(
            f"the comparison in {folder} has other settings: {found}; ask for those, or choose "
            "another --out"
        )


def begin(folder: Location, config: RunConfig, info: DatasetInfo) -> None:
    """Write down what the comparison is of."""
    with (folder / REQUEST).atomic_write() as file:
        file.write(yaml.safe_dump(_content(config, info), sort_keys=False).encode())


def _content(config: RunConfig, info: DatasetInfo) -> dict[str, Any]:
    flat = config.flat()
    return {
        "data": info.name,
        "fingerprint": info.fingerprint,
        "shared": {name: flat[name] for name in _SHARED},
    }


def _read(place: Location) -> Mapping[str, Any]:
    try:
        stored = yaml.safe_load(place.read_bytes())
        texts = (stored["data"], stored["fingerprint"])
        if all(isinstance(text, str) for text in texts) and {*stored["shared"]} == {*_SHARED}:
            found: Mapping[str, Any] = stored
            return found
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        pass
    raise UserError(
        f"expected what a comparison is of in {place}, found something else; restore the file, or "
        "choose another --out"
    )
