"""YAML files of options: what `--config` takes, the config of a run among it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from idm_ray.checks import refuse_unknown
from idm_ray.config import option_names
from idm_ray.errors import UserError
from idm_ray.option_text import convert_text

# Options of `condense` alone that a file may hold as well.
NOT_OF_THE_CONFIG = ("out", "overwrite", "resume")

config_file_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file of options; those on the command line win.",
)


def given_options(config_file: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file under those of the command line.

    Raises:
        UserError: the file cannot be used.
    """
    options = _read_config(config_file) if config_file else {}
    options |= {name: value for name, value in given.items() if value is not None}
    return options


def _read_config(path: Path) -> dict[str, Any]:
    """Flat options of a YAML file: a plain mapping, or a run's config.yaml.

    Raises:
        UserError: it cannot be read, is no mapping, or has unknown keys.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"expected a YAML file of options at {path}: {reason}") from error
    if isinstance(content, dict) and isinstance(content.get("options"), dict):
        content = content["options"]
    if not isinstance(content, dict):
        raise UserError(f"expected options as 'name: value' lines in {path}, found {content!r}")
    options = {str(name).replace("-", "_"): value for name, value in content.items()}
    refuse_unknown(options, (*option_names(), *NOT_OF_THE_CONFIG))
    return {name: _from_yaml(name, value) for name, value in options.items()}


def _from_yaml(name: str, value: Any) -> Any:
    """A value as the command line would read it: YAML takes 1e-3 for text and off for false."""
    if name == "compile" and isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str) and name not in NOT_OF_THE_CONFIG:
        return convert_text(name, value)
    return value
