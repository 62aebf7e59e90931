"""What README and docs/ say is there: commands run or parse, links, files and modules exist."""

import functools
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from idm_ray.cli import cli
from idm_ray.recipes import recipe_names
from tests.making_runs import command, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>.+?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.S
)


def blocks(page, language):
    """Code of a page, each with what it needs that a test does not have."""
    for found in _BLOCK.finditer(page.read_text()):
        if found["language"] == language:
            yield found["code"], found["needs"]


def commands(code):
    lines = (re.split(r"\s#", line)[0].strip() for line in code.replace("\\\n", "").splitlines())
    return [line for line in lines if line]


def all_commands(first_word):
    return sorted(
        {
            line
            for page in PAGES
            for code, _ in blocks(page, "bash")
            for line in commands(code)
            if line.split()[0] == first_word
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages speak of, small: a run in runs/demo."""
    place = tmp_path_factory.mktemp("documents")
    run(place / "runs" / "demo", repeats=1)
    return place


# --- commands and code ---


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_a_page_shows_runs_or_says_what_it_needs(page, folder):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    started = [
        (language, code)
        for language in ("bash", "python")
        for code, needs in blocks(page, language)
        if needs is None and not code.startswith("make ")
    ]
    for language, code in started:
        if language == "bash":
            # Whatever else a page shows may change the machine, and has to say what it needs.
            assert {line.split()[0] for line in commands(code)} == {"idm-ray"}, code
        program = ["bash", "-euc"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, code],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}"


@pytest.mark.parametrize("line", all_commands("idm-ray"))
def test_every_command_is_one_that_the_command_line_takes(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(line)[1:]
    cli.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("line", all_commands("python"))
def test_every_script_is_there_and_takes_these_options(line):
    words = shlex.split(line)
    if words[1] == "-c":
        compile(words[2], line, "exec")
        return
    script = ROOT / words[1]
    options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    assert options <= options_of(script), line


@functools.cache
def options_of(script):
    """Flags of a program in pipelines/; the others take none."""
    if script.parent.name != "pipelines":
        assert script.exists()
        return frozenset()
    told = command("--help", program=lambda: runpy.run_path(str(script), run_name="__main__"))
    assert told.status == 0
    return frozenset(re.findall(r"(?<!\S)--[a-z][a-z-]+", told.out))


@pytest.mark.parametrize("line", all_commands("make"))
def test_every_make_target_exists(line):
    assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text()


# --- what is named ---


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_module_that_is_named_exists(page):
    parts = "|".join(path.parent.name for path in (ROOT / "idm_ray").glob("*/__init__.py"))
    for module in re.findall(rf"`((?:(?:{parts})/)?[a-z_]+\.(?:py|cpp))`", page.read_text()):
        places = (ROOT / "idm_ray", ROOT / "docs", ROOT / "cluster", ROOT)
        found = any((place / module).exists() for place in places)
        assert found or list((ROOT / "idm_ray").rglob(module)), module


def test_every_option_that_is_named_exists():
    known = {flag for command in cli.commands.values() for p in command.params for flag in p.opts}
    known |= {flag for p in cli.params for flag in p.opts}
    known |= {flag for script in (ROOT / "pipelines").glob("*.py") for flag in options_of(script)}
    of_others = {"--working-dir", "--no-wait", "--submission-id", "--logdir"}
    for page in PAGES:
        for flag in re.findall(r"`(--[a-z][a-z-]+)", page.read_text()):
            assert flag in known | of_others, (page.name, flag)


def test_every_page_can_be_reached_from_the_readme():
    links = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)]+\.md[^)]*)\)", page.read_text())
    }
    assert {*PAGES[1:]} <= links


def test_every_pipeline_is_in_the_readme():
    scripts = re.findall(r"pipelines/[a-z0-9_]+\.py", PAGES[0].read_text())
    assert {ROOT / script for script in scripts} == {*(ROOT / "pipelines").glob("*.py")}


# --- the page of settings ---


def test_the_page_of_settings_is_what_the_config_says():
    spec = importlib.util.spec_from_file_location("settings", ROOT / "docs" / "settings.py")
    settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(settings)
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == settings.pages(), "run: make docs"
    for name in recipe_names():
        assert f"| `{name}`," in page
