"""The page of instructions: its commands are ones that exist, its paths and settings are there."""

import re
import shlex

import pytest

from idm_ray.cli import cli
from tests.cluster.entrypoints import IN_THE_IMAGE, wrong_words
from tests.cluster.manifests import KUBERAY, OVERLAYS, ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def commands():
    text = PAGE.replace("\\\n", "")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [" ".join(line.split("#")[0].split()) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("idm-ray")])
def test_every_command_of_ours_is_one(line):
    assert wrong_words(line) == []


@pytest.mark.parametrize("line", [line for line in commands() if " -- " in line])
def test_every_job_that_is_submitted_would_be_taken(line):
    program, script, *words = shlex.split(line.partition(" -- ")[2])
    assert program == "python"
    assert wrong_words(shlex.join([program, str(IN_THE_IMAGE / script), *words])) == []


def test_every_path_and_overlay_exists():
    for path in re.findall(r"\bcluster/[\w/.-]*\w", PAGE):
        assert (ROOT / path).exists() or (ROOT / "tests" / path).exists(), path
    for overlay in re.findall(r"`((?:imagenet-subset|tune|interactive)-[\w-]+)`", PAGE):
        assert overlay.removesuffix("-head-svc") in OVERLAYS or overlay.endswith("svc"), overlay


def test_every_overlay_is_on_the_page():
    for overlay in OVERLAYS:
        workload = next(w for w in ("imagenet-subset", "tune", "interactive") if w in overlay)
        assert f"`{workload}-s3" in PAGE
        assert all(word in PAGE for word in overlay.removeprefix(workload).split("-"))


def test_every_setting_of_the_page_exists():
    there = re.findall(r"^(\w+)=", (KUBERAY / "settings" / "settings.env").read_text(), re.M)
    told = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", PAGE)) - {"IDM_RAY_SHARDS"}
    assert {name for name in told if not name.startswith("RAY_")} == {*there}


def test_every_option_of_the_page_exists():
    known = {flag for command in cli.commands.values() for p in command.params for flag in p.opts}
    for flag in re.findall(r"`(--[a-z-]+)", PAGE):
        assert flag in known | {"--working-dir"}, flag
