"""What the README says is there: its commands parse, its files and modules exist."""

import re
import shlex
from pathlib import Path

import pytest

from idm_ray.cli import cli
from idm_ray.recipes import recipe_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands():
    text = README.replace("\\\n", "")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = (line.split("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("idm-ray")])
def test_every_command_of_the_readme_is_one_that_the_command_line_takes(line):
    name, *arguments = shlex.split(line)[1:]
    command = cli.commands[name]
    command.make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make")])
def test_every_make_target_of_the_readme_exists(line):
    assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text()


def test_every_module_and_picture_of_the_readme_exists():
    modules = re.findall(r"`((?:algorithm/)?[a-z_]+\.py)`", README)
    assert modules
    for module in modules:
        assert (ROOT / "idm_ray" / module).exists(), module
    scripts = re.findall(r"pipelines/[a-z0-9_]+\.py", README)
    assert {ROOT / script for script in scripts} == {*(ROOT / "pipelines").glob("*.py")}
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).exists(), picture


def test_every_option_of_the_readme_exists():
    known = {flag for command in cli.commands.values() for p in command.params for flag in p.opts}
    for flag in re.findall(r"`(--[a-z-]+)", README):
        assert flag in known, flag


def test_every_recipe_is_in_the_readme():
    for name in recipe_names():
        assert f"`{name.removesuffix('-text')}`" in README
