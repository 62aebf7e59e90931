"""Every script in pipelines/ rehearses to its end, and refuses what it must."""

import contextlib
import dataclasses
import io
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from idm_ray import pipeline
from idm_ray.data.classes import parse_classes
from idm_ray.data.known import IMAGENET_SUBSET
from idm_ray.data.manifest import SPLITS, Manifest
from idm_ray.data.tally import Tally
from idm_ray.searches.catalog import SEARCHES
from idm_ray.sharding import write_shards
from tests.data.making import bytes_of, write_tree
from tests.making_runs import Outcome, as_words, metrics

FOLDER = Path(__file__).parent.parent / "pipelines"
DATA_SETS = ("cifar10", "cifar100", "imagenet_subset", "tiny_imagenet")
ABLATIONS = {
    "ablation": ("components", "partition", "pretrain_epochs"),
    "sensitivity": ("lambda_reg", "train_steps", "queue_size"),
}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
QUICK = as_words(
    iterations=2,
    repeats=0,
    train_steps=1,
    queue_init=1,
    batch_real=4,
    batch_train=4,
    local=True,
    device="cpu",
    threads=1,
)


def script(name, *words):
    """Run a script of pipelines/ in this process as Python would, with words of its own."""
    path = FOLDER / f"{name}.py"
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *map(str, words)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as ended:
                return Outcome(ended.code, out.getvalue(), err.getvalue())
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
    raise AssertionError("the script returned without an exit status")


@pytest.fixture(autouse=True)
def no_shards_in_the_environment(monkeypatch):
    monkeypatch.delenv("IDM_RAY_SHARDS", raising=False)


def refusal(told):
    assert told.status == 2
    line = told.err.strip().splitlines()[-1]
    assert line.startswith("idm-ray: expected")
    return line


def test_these_are_the_paper_s_data_sets_and_its_ablations():
    assert sorted([*DATA_SETS, "continual", *ABLATIONS]) == SCRIPTS


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_script_rehearses_to_its_end(name, tmp_path):
    told = script(name, "--smoke", "--out", tmp_path / "run", *QUICK)
    assert told.status == 0, told.err
    assert (tmp_path / "run" / "condensed.parquet").exists()
    assert len([line for line in metrics(tmp_path / "run") if "matching_loss" in line]) == 2


def test_continual_learning_rehearses_to_its_end_and_goes_on_by_the_same_words(tmp_path):
    quick = {"eval_epochs": 1, "iterations": 1, "train_steps": 1, "device": "cpu", "threads": 1}
    words = ["--smoke", "--methods", "dm,idm", "--out", tmp_path / "run", "--local"]
    told = script("continual", *words, *as_words(**quick))
    assert told.status == 0, told.err
    assert "2 steps of 2 or 3 classes, 2 images per class in memory" in told.out
    files = ("continual.png", "continual.svg", "results.csv", "results.json")
    assert all((tmp_path / "run" / name).exists() for name in files)
    assert len((tmp_path / "run" / "accuracies.jsonl").read_text().splitlines()) == 4
    again = script("continual", *words, *as_words(**quick))
    assert (again.status, again.out) == (0, told.out)
    assert "memory 1 of" in told.err
    assert "train 4/4" in told.err
    assert "memory" not in again.err
    assert "train 4/4" not in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", 6), "steps must be at most 5 for 10 classes, 2 or more to a step, got 6"),
        (("--methods", "idn"), "unknown method 'idn'; did you mean 'idm'?"),
        (("--repeats", 0), "repeats must be at least 1 for continual learning, got 0"),
        (("--method", "dm"), "No such option '--method'."),
    ],
)
def test_continual_learning_answers_a_mistake_in_one_line(tmp_path, words, message):
    told = script("continual", "--data", "digits", "--out", tmp_path / "run", "--local", *words)
    assert told.status == 2
    assert told.err.strip().splitlines()[-1].startswith(f"idm-ray: {message}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "words", "trials"),
    [
        ("sensitivity", ["--search", "lambda_reg", "--values", "0,0.5"], 2),
        ("ablation", ["--search", "pretrain_epochs", "--pretrained", "1"], 8),
    ],
)
def test_the_ablations_rehearse_to_their_end(tmp_path, name, words, trials):
    # As a program: it starts a cluster of its own.
    quick = as_words(iterations=3, eval_epochs=2, out=tmp_path / "run")
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--smoke", *words, *quick],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    search = words[1]
    assert (tmp_path / "run" / f"{search}.png").exists()
    for number in range(trials):
        folder = tmp_path / "run" / "trials" / f"{search}-{number}-seed0"
        assert (folder / "condensed.parquet").exists()


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_ablations_are_the_paper_s_unless_others_are_given(name):
    settle = runpy.run_path(str(FOLDER / f"{name}.py"))[name]
    unset = dict.fromkeys(("search", "ipc", "data", "seeds"))
    found = settle(unset.copy(), print, smoke=False)
    assert found == {"search": ABLATIONS[name], "ipc": 10, "data": "cifar100", "seeds": None}
    assert {*ABLATIONS[name]} < {*SEARCHES}
    given = {"search": ("lr_img",), "ipc": 1, "data": "digits", "seeds": 3}
    assert settle(given.copy(), print, smoke=False) == given


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_rehearsal_of_the_ablations_needs_no_download(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settle = runpy.run_path(str(FOLDER / f"{name}.py"))[name]
    told = []
    found = settle(dict.fromkeys(("search", "ipc", "data", "seeds")), told.append, smoke=True)
    assert Path(found["data"], "train").is_dir()
    assert (found["seeds"], found["ipc"], len(told)) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_SETS)
def test_every_rehearsal_has_a_result_with_nothing_but_its_own_settings(name, tmp_path):
    told = script(name, "--smoke", "--out", tmp_path / "run", "--local", "--device", "cpu")
    assert told.status == 0, told.err
    assert len(metrics(tmp_path / "run")) >= pipeline.SMOKE["iterations"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_a_help_and_refuses_unknown_options(name):
    told = script(name, "--help")
    assert told.status == 0
    assert "--smoke" in told.out
    assert "--ipc" in told.out
    told = script(name, "--ipcc", "3")
    assert told.status == 2
    assert "--ipc" in told.err


def test_a_script_does_not_resume_and_overwrite(tmp_path):
    told = script("cifar10", "--resume", "auto", "--overwrite", "--out", tmp_path / "run", *QUICK)
    assert "expected --resume auto or --overwrite, got both" in refusal(told)


def test_a_rehearsal_without_out_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script("cifar10", "--smoke", *QUICK).status == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert "cifar10-smoke" in folder.name


def test_images_for_rehearsals_are_drawn_once_and_always_the_same(tmp_path, monkeypatch):
    drawn = []
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        folder = Path(pipeline.smoke_images(8))
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
        assert pipeline.smoke_images(8) == str(folder)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before
        drawn.append(bytes_of(folder))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 250
    assert len(set(drawn[0].values())) == 250


# --- Tiny ImageNet ---


def test_tiny_imagenet_without_data_says_where_they_come_from():
    assert "--data path/to/tiny-imagenet-200" in refusal(script("tiny_imagenet"))


# --- ImageNet Subset ---


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp("source") / "insects", train=6)
    write_shards(root, out=root.parent / "shards", local=True)
    return root.parent / "shards"


NETWORK = ("--network", "convnet-2")


def test_without_shards_the_environment_variable_is_named(tmp_path):
    line = refusal(script("imagenet_subset", "--out", tmp_path / "run"))
    assert "--shards URI or the environment variable IDM_RAY_SHARDS, got neither" in line
    assert "idm-ray shards path/to/ILSVRC2012 --out URI --size 224" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["option", "variable"])
def test_all_classes_are_used_where_the_paper_s_are_not_among_them(
    shards, tmp_path, monkeypatch, how
):
    words = ["--shards", shards] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("IDM_RAY_SHARDS", str(shards))
    told = script("imagenet_subset", *words, "--out", tmp_path / "run", *QUICK, *NETWORK)
    assert told.status == 0, told.err
    assert "using all 2 classes" in told.err + told.out
    assert (tmp_path / "run" / "condensed.parquet").exists()


def test_the_hundred_classes_of_the_paper_are_chosen_in_their_order(shards, tmp_path):
    # Only the manifest is asked for classes: images of some of them will do.
    shutil.copytree(shards, tmp_path / "shards")
    file = tmp_path / "shards" / "manifest.json"
    two = Manifest.from_json(file.read_text(), "here")
    without = 101 - len(two.class_names)
    records = {s: (*two.split(s), *[Tally().record()] * without) for s in SPLITS}
    names = tuple(sorted({*IMAGENET_SUBSET, "n00000000"}))
    file.write_text(dataclasses.replace(two, class_names=names, **records).to_json())
    choose = runpy.run_path(str(FOLDER / "imagenet_subset.py"))["imagenet_subset"]
    told = []
    settings = choose({"ipc": 10}, told.append, smoke=False, shards=str(tmp_path / "shards"))
    assert told == ["using the 100 classes of the paper's ImageNet Subset"]
    assert parse_classes(settings["classes"]) == IMAGENET_SUBSET
    assert (settings["ipc"], settings["recipe"]) == (10, "imagenet_subset")


def test_classes_that_are_given_are_kept_and_must_be_there(shards, tmp_path):
    words = ("--shards", shards, "--out", tmp_path / "run", "--classes", "ant,beee")
    assert "did you mean 'bee'?" in refusal(script("imagenet_subset", *words, *QUICK))


def test_a_place_without_shards_is_refused_with_the_command(tmp_path):
    line = refusal(script("imagenet_subset", "--shards", tmp_path, "--out", tmp_path / "run"))
    assert f"found none in {tmp_path}" in line
    assert f"idm-ray shards SOURCE --out {tmp_path} --size 224" in line


def test_a_rehearsal_leaves_other_shards_alone(shards, tmp_path):
    before = bytes_of(shards)
    words = ("--smoke", "--shards", shards, "--out", tmp_path / "run")
    line = refusal(script("imagenet_subset", *words, *QUICK))
    assert f"found those of 'insects' in {shards}: choose another --shards" in line
    assert bytes_of(shards) == before
    assert not (tmp_path / "run").exists()


def test_shards_for_a_rehearsal_are_written_where_they_are_told_and_used_again(tmp_path):
    given = {"out": str(tmp_path / "run"), "local": True}
    for told, place in ((str(tmp_path / "x"), tmp_path / "x"), (None, tmp_path / "run" / "shards")):
        found = pipeline.smoke_shards(given, told, size=8)
        assert found == str(place)
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*.tar")}
        assert len(before) == 10
        assert pipeline.smoke_shards(given, told, size=8) == found
        assert {path: path.stat().st_mtime_ns for path in before} == before
