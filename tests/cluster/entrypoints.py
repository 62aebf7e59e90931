"""The commands of entrypoints, as their own parsers see them."""

import contextlib
import functools
import runpy
import shlex
from pathlib import PurePosixPath

import click
import pytest

from idm_ray import pipeline
from idm_ray.cli import cli
from idm_ray.errors import UserError
from tests.cluster.manifests import ROOT

# Where the Dockerfile puts the scripts.
IN_THE_IMAGE = PurePosixPath("/opt/idm_ray")


def wrong_words(entrypoint: str) -> list[str]:
    """Why a command of ours would be refused before it starts: no such script, no such option."""
    program, name, *words = shlex.split(entrypoint)
    if program == "idm-ray":
        command = cli.commands.get(name)
    elif program == "python" and PurePosixPath(name).is_relative_to(IN_THE_IMAGE):
        command = command_of(str(PurePosixPath(name).relative_to(IN_THE_IMAGE)))
    else:
        return [f"expected idm-ray, or python and a script of the image, got {program} {name}"]
    if command is None:
        return [f"{name}: no such command or script"]
    try:
        command.make_context(name, words)
    except (click.ClickException, UserError) as error:
        return [str(error)]
    return []


@functools.cache
def command_of(script: str) -> click.Command | None:
    """The command line of a script, relative to the repository."""
    path = ROOT / script
    if not path.is_file():
        return None
    found: list[click.Command] = []
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(pipeline, "main", found.append)
        runpy.run_path(str(path), run_name="__main__")
    return found[0]
