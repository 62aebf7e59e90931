import csv
import json
import re

import numpy as np
import pytest
import torch

import idm_ray
from idm_ray.algorithm.evaluate import accuracy
from idm_ray.analysis.features import embed, feature_network
from idm_ray.errors import CondensedSetError, UserError
from idm_ray.execution import Started
from idm_ray.progress import Advanced, Announcement
from idm_ray.real_images import RealImages
from idm_ray.storage import Location
from tests import reference
from tests.analysis.making import (
    digit_images,
    digits_card,
    digits_plan,
    write_real_digits,
    write_set,
)
from tests.making_runs import as_words, command, write_pictures

HERE = {"device": "cpu", "threads": 1, "precision": "float32"}
WORDS = as_words(data="digits", feature_epochs=0, **HERE)
FILES = ("consistency.csv", "consistency.json", "consistency.png", "consistency.svg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


@pytest.fixture(scope="module")
def right(folder):
    """Real training images under their own classes."""
    return write_real_digits(folder / "right" / "condensed.parquet")


@pytest.fixture(scope="module")
def wrong(folder):
    """The same images, each under the class behind its own."""
    return write_real_digits(folder / "wrong" / "condensed.parquet", shift=1, method="dm")


def analyse(files, **options):
    return idm_ray.analyse(files, **{"data": "digits", "feature_epochs": 0, **HERE, **options})


def refusal(*words):
    """The one line with which the command ends."""
    outcome = command("analyse", *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert re.fullmatch(r"idm-ray: [^\n]+\n", outcome.err), outcome.err
    return outcome.err.removeprefix("idm-ray: ").rstrip()


# --- numbers ---


def test_images_under_their_own_classes_are_consistent_and_under_others_are_not(right, wrong):
    found = analyse([right, wrong], feature_epochs=1)
    assert [*found.sets] == ["idm-l1-ipc3", "dm-l1-ipc3"]
    ours, shifted = (one.ratios for one in found.sets.values())
    # The nearest real image of each is itself.
    assert (ours[0], shifted[0]) == (1, 0)
    assert all(ratio > 0.5 for ratio in ours)
    assert all(ratio < 0.2 for ratio in shifted)
    assert (found.k, found.chance) == ((1, 5, 10, 20, 50, 100), 0.1)


def test_ratios_are_those_of_plain_loops_over_all_real_images(tmp_path):
    plan, dataset = digits_plan(seed=5)
    images = digit_images(plan.info, dataset, ipc=1)
    noise = np.random.default_rng(0).standard_normal(images.shape).astype(np.float32)
    path = write_set(tmp_path / "a.parquet", images + noise, digits_card(plan.info, ipc=1))
    ks = (1, 3, 40)
    found = analyse(path, k=ks, seed=5, limit_per_class=20)
    network, _ = feature_network(plan, 0)
    rows = torch.from_numpy(np.arange(200))
    with RealImages(plan) as real:
        features, labels = real.whole().take(rows)
        tested = accuracy(network.logits, real.test_batches())
    # Few features are enough to tell, and loops over all take long.
    real_features = embed(network, features).tolist()
    samples = embed(network, torch.from_numpy(images + noise)).tolist()
    expected = [
        reference.consistency_ratio(samples, range(10), real_features, labels.tolist(), k)
        for k in ks
    ]
    assert found.sets["idm-l1-ipc1"].ratios == pytest.approx(expected, abs=1e-12)
    assert (found.space.test_accuracy, found.space.training_images) == (tested, 200)


def test_the_same_question_has_the_same_answer(right):
    assert analyse(right) == analyse([right])
    assert analyse(right, seed=1).sets != analyse(right).sets


def test_how_many_images_go_through_at_once_says_little(right, wrong):
    few, many = (analyse([right, wrong], images_per_pass=n) for n in (100, 5000))
    for name, one in few.sets.items():
        assert one.ratios == pytest.approx(many.sets[name].ratios, abs=0.01)


def test_the_network_of_the_features_is_said(right):
    trained = analyse(right, feature_epochs=2).space
    random = analyse(right).space
    assert (trained.network, trained.epochs, trained.split) == ("convnet-2", 2, "test")
    assert (trained.num_features, trained.precision, trained.seed) == (512, "float32", 0)
    assert random.epochs == 0
    assert trained.test_accuracy > 0.5 > random.test_accuracy
    other = analyse(right, network="convnet-1")
    assert (other.space.network, other.space.num_features) == ("convnet-1", 2048)
    assert analyse(right, network="auto").space == random


def test_tiles_are_counted_one_by_one(folder):
    tiled = write_real_digits(folder / "tiled.parquet", partition=2)
    one = analyse(tiled).sets["idm-l2-ipc3"]
    assert (one.samples, one.partition, one.ipc) == (10 * 3 * 4, 2, 3)
    whole = write_real_digits(folder / "whole.parquet")
    assert analyse(whole).sets["idm-l1-ipc3"].samples == 10 * 3


def test_an_export_is_analysed_like_the_set(tmp_path, folder):
    tiled = write_real_digits(folder / "tiled.parquet", partition=2)
    idm_ray.export(tiled, out=tmp_path / "set.npz")
    idm_ray.export(tiled, out=tmp_path / "tiles.pt", expand=True)
    found = [analyse(path).sets for path in (tiled, tmp_path / "set.npz", tmp_path / "tiles.pt")]
    (first,), (second,), (expanded,) = (one.values() for one in found)
    assert first.ratios == second.ratios
    assert expanded.ratios == pytest.approx(first.ratios)
    assert (expanded.partition, expanded.samples) == (1, first.samples)


def test_so_many_neighbours_are_looked_at_as_each_class_has_images(right):
    assert analyse(right, limit_per_class=20).k == (1, 5, 10, 20)
    assert analyse(right, limit_per_class=4).k == (1,)
    assert analyse(right, limit_per_class=20, k=(200, 7, 7)).k == (7, 200)
    # Of all images, a tenth is of the class.
    assert analyse(right, limit_per_class=20, k=(200,)).sets["idm-l1-ipc3"].ratios == (0.1,)


def test_what_happens_is_told(right):
    events = []
    analyse(right, feature_epochs=1, images_per_pass=500, listener=events.append)
    kinds = [type(event) for event in events]
    assert kinds == [Announcement, Announcement, Started, Advanced, Advanced, Advanced]
    assert re.match(r"pretrained network 0: 6 steps, training accuracy ", events[1].text)
    assert (events[2].total, events[-1].done) == (3, 3)


# --- the command and its files ---


def test_the_command_prints_a_table_and_writes_all_files(tmp_path, right, wrong):
    out = tmp_path / "deep" / "out"
    words = (right, wrong, "--out", out, "--json", tmp_path / "x.json", *WORDS)
    outcome = command("analyse", *words, "--k", "1, 5")
    assert outcome.status == 0, outcome.err
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in outcome.out.splitlines()
        if line.startswith("│")
    ]
    assert [row[0] for row in cells] == ["1", "5"]
    assert cells[0] == ["1", "100.0", "0.0"]
    assert "convnet-2, untrained, test accuracy" in " ".join(outcome.out.split())
    of_sets = [f"features-{n}.{s}" for n in ("dm-l1-ipc3", "idm-l1-ipc3") for s in ("png", "svg")]
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, *of_sets])
    written = json.loads((out / "consistency.json").read_text())
    assert written == json.loads((tmp_path / "x.json").read_text())
    assert written["k"] == [1, 5]
    assert written["space"]["network"] == "convnet-2"
    assert written["sets"]["dm-l1-ipc3"]["ratios"][0] == 0
    assert written["context"]["versions"]["idm_ray"] == idm_ray.__version__
    with open(out / "consistency.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["set"], line["k"]) for line in lines] == [
        (name, k) for name in ("idm-l1-ipc3", "dm-l1-ipc3") for k in ("1", "5")
    ]
    ratios = [ratio for one in written["sets"].values() for ratio in one["ratios"]]
    assert [float(line["consistency_ratio"]) for line in lines] == ratios


def test_a_quiet_command_prints_its_result_alone(tmp_path, right):
    words = (right, *WORDS, "--limit-per-class", 10, "--quiet")
    outcome = command("analyse", *words, "--out", tmp_path / "a")
    assert (outcome.status, outcome.err) == (0, "")
    assert "consistency ratio, %" in outcome.out
    outcome = command("analyse", *words, "--out", tmp_path / "b", "--json", "-")
    assert json.loads(outcome.out)["out"] == str(tmp_path / "b")


def test_an_earlier_analysis_is_replaced_only_if_asked(tmp_path, right, wrong):
    out = tmp_path / "out"
    analyse([right, wrong], limit_per_class=10, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    short = (right, *WORDS, "--limit-per-class", 10, "--out", out)
    assert refusal(*short) == (
        f"expected nothing in {out}, found an earlier analysis; add --overwrite or choose another "
        "--out"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert command("analyse", *short, "--overwrite").status == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *FILES,
        "features-idm-l1-ipc3.png",
        "features-idm-l1-ipc3.svg",
    ]


def test_nothing_else_is_ever_replaced(tmp_path, right):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    short = (right, *WORDS, "--overwrite", "--out")
    assert refusal(*short, tmp_path / "out") == (
        f"expected nothing or an earlier analysis in {tmp_path}/out, found 'thesis.tex'; choose "
        "another --out"
    )
    assert refusal(*short, tmp_path / "out" / "thesis.tex") == (
        f"expected a folder for --out, found a file at {tmp_path}/out/thesis.tex; choose another"
    )
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


def test_nothing_is_written_without_out(tmp_path, right, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert analyse(right, limit_per_class=5).out is None
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_as_good_as_none(tmp_path, right):
    analyse(right, limit_per_class=5, out=tmp_path)
    assert (tmp_path / "consistency.json").exists()


def test_a_bucket_is_as_good_as_a_folder(store, right, wrong):
    out = f"{store.bucket}/out"
    there = Location.at(out)
    found = analyse([right, wrong], limit_per_class=5, out=out)
    assert found.out == out
    assert len(there.files()) == 8
    with pytest.raises(UserError, match="found an earlier analysis; add --overwrite"):
        analyse(right, limit_per_class=5, out=out)
    analyse(right, limit_per_class=5, out=out, overwrite=True)
    names = {entry.path for entry in there.files()}
    assert names == {*FILES, "features-idm-l1-ipc3.png", "features-idm-l1-ipc3.svg"}
    assert json.loads((there / "consistency.json").read_bytes())["k"] == [1, 5]


# --- what does not fit ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", "0"], "k must be at least 1, got 0"),
        (["--k", "1,x"], "k must be numbers of neighbours such as 1,5,10, got '1,x'"),
        (["--k", ""], "k must be numbers of neighbours such as 1,5,10, got ''"),
        (
            ["--k", "5,101", "--limit-per-class", "10"],
            "expected k of at most 100, the real training images of the data, got 101; look at "
            "fewer neighbours",
        ),
        (
            ["--feature-epochs", "-1"],
            "Invalid value for '--feature-epochs': -1 is not in the range x>=0.",
        ),
        (
            ["--network", "resnet18-bn"],
            "expected a network without batch norm, whose features are of one image each, got "
            "resnet18-bn; choose another by --network",
        ),
        (
            ["--network", "torchvision/resnet18"],
            "expected a network without batch norm, whose features are of one image each, got "
            "torchvision/resnet18; choose another by --network",
        ),
        (
            ["--network", "convnet-4"],
            "network convnet-4 would reduce 8x8 images to a 1x1 map before its last norm; use "
            "convnet-3 at most",
        ),
        (["--partition", "1"], "No such option '--partition'."),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(tmp_path, right, words, message):
    found = refusal(right, *WORDS, "--out", tmp_path / "out", *words)
    assert found.startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_command_without_sets_data_or_out_says_what_is_missing(tmp_path, right):
    assert refusal() == "Missing argument 'FILE...'."
    assert refusal(right) == "Missing option '--out'."
    assert refusal(right, "--out", tmp_path) == (
        "expected --data SOURCE, whose images the sets were made of; got none"
    )


def test_data_of_other_classes_or_another_size_are_refused(tmp_path, right):
    pictures = write_pictures(tmp_path / "pictures", {"ant": 2, "bee": 2})
    short = (right, "--out", tmp_path / "out", "--data")
    assert refusal(*short, pictures) == (
        f"expected data of the classes of {right}, 10 (0, 1, 2, ...), got 2 (ant, bee); name the "
        "data that it was made of, with the same --classes"
    )
    assert refusal(*short, "digits", "--size", "16") == (
        f"expected data of the size of {right}, 1x8x8, got 1x16x16; use --size 8"
    )


def test_sets_that_cannot_be_compared_are_refused(tmp_path, folder, right):
    few = write_set(
        folder / "few.parquet",
        np.zeros((2, 1, 8, 8), np.float32),
        digits_card(digits_plan()[0].info, class_names=("ant", "bee"), ipc=1),
    )
    found = refusal(right, few, *WORDS, "--out", tmp_path / "out")
    assert found.startswith("expected sets of the same classes, got 10 (0, 1, 2, ...) in ")
    other = write_real_digits(folder / "other.parquet", network="alexnet")
    found = refusal(right, other, *WORDS, "--out", tmp_path / "out")
    assert found.endswith("got convnet-2 and alexnet; choose one by --network")
    assert analyse([right, other], network="convnet-2", limit_per_class=5).k == (1, 5)


def test_a_file_that_is_no_set_is_refused(tmp_path, right):
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(CondensedSetError, match="expected a Parquet file, found another"):
        analyse([right, tmp_path / "x.parquet"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": (True,)}, "k must be a whole number, got True"),
        ({"k": (1.5,)}, "k must be a whole number, got 1.5"),
        ({"feature_epochs": -1}, "feature_epochs must be at least 0, got -1"),
        ({"feature_epochs": 1.0}, "feature_epochs must be a whole number, got 1.0"),
        ({"ipc": 3}, "unknown option 'ipc'"),
        ({"flips": "on"}, "unknown option 'flips'"),
        ({"data": "digit"}, "did you mean 'digits'?"),
        ({"out": ""}, "expected paths in UTF-8, got ''; rename the file or folder"),
        ({"out": "m\udce2le"}, r"expected paths in UTF-8, got 'm\udce2le'; rename"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_in_python_as_well(right, options, message):
    with pytest.raises(UserError) as raised:
        analyse(right, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_set_is_refused():
    with pytest.raises(UserError, match="expected a condensed set or several, got none"):
        analyse([])
