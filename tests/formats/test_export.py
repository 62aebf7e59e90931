"""Every form of a condensed set holds the same images, and says how to use them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
import webdataset
from torchvision.transforms import v2

import idm_ray
from idm_ray.errors import CondensedSetError, UserError
from idm_ray.formats import export as export_module
from idm_ray.formats.forms import FORMS
from idm_ray.formats.image_folder import folder_names
from idm_ray.results.condensed import write_condensed
from idm_ray.results.pictures import from_uint8, to_uint8
from idm_ray.storage import Location
from tests.data.small_disk import on_a_small_disk
from tests.making_runs import run
from tests.results.sets import make_arrays, make_card

NUMBERS = ("webdataset", "pt", "npz")
HERE = {"data": "digits", "local": True, "device": "cpu", "threads": 1}


@pytest.fixture
def a_set(tmp_path):
    """Writes a set and returns its path; by default colours, expanded 2 x 2, 2 per class."""

    def write(**changes):
        card = make_card(**changes)
        images = np.random.default_rng(0).normal(0, 2, (card.num_images, *card.image_shape))
        labels = np.repeat(np.arange(len(card.class_names)), card.ipc)
        path = tmp_path / "condensed.parquet"
        write_condensed(path, images=images.astype(np.float32), labels=labels, card=card)
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "exported"


def pixels(loaded):
    return to_uint8(loaded.images.numpy(), mean=loaded.card.mean, std=loaded.card.std)


# --- forms that this package reads back ---


@pytest.mark.parametrize(
    ("name", "form"), [("exported", "webdataset"), ("exported.pt", None), ("exported.npz", None)]
)
def test_numbers_come_back_bit_for_bit(a_set, tmp_path, name, form):
    path = a_set()
    idm_ray.export(path, out=tmp_path / name, form=form)
    before, after = idm_ray.load(path), idm_ray.load(tmp_path / name)
    assert torch.equal(before.images, after.images)
    assert torch.equal(before.labels, after.labels)
    assert before.card == after.card


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_keeps_eight_bits_and_says_what_was_cut(a_set, out, channels):
    colours = (0.4,) * channels
    path = a_set(image_shape=(channels, 6, 4), mean=colours, std=colours)
    written = idm_ray.export(path, out=out)
    before, after = idm_ray.load(path), idm_ray.load(out)
    assert np.array_equal(pixels(before), pixels(after))
    assert torch.equal(before.labels, after.labels)
    assert after.card.partition == 2
    assert after.card.evaluation is None
    shades = 255 * (before.images.double() * 0.4 + 0.4)
    assert written.clipped == ((shades < -0.5) | (shades > 255.5)).double().mean()
    assert 0.1 < written.clipped < 0.9


def test_eight_bits_are_normalised_and_back_without_a_change():
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    stored = from_uint8(every, mean=[0.3051], std=[0.3759])
    assert stored.dtype == np.float32
    assert np.array_equal(to_uint8(stored, mean=[0.3051], std=[0.3759]), every)


@pytest.mark.parametrize("form", FORMS)
def test_expanded_images_are_those_that_training_would_make(a_set, tmp_path, form):
    path, out = a_set(), tmp_path / f"exported.{form}"
    written = idm_ray.export(path, out=out, form=form, expand=True)
    before, after = idm_ray.load(path), idm_ray.load(out)
    expected = before.dataset()
    assert (written.partition, written.num_images) == (1, 24)
    if form == "folder":
        card = before.card
        shown = to_uint8(expected.images.numpy(), mean=card.mean, std=card.std)
        assert np.array_equal(shown, pixels(after))
    else:
        assert torch.equal(expected.images, after.images)
    assert torch.equal(expected.labels, after.labels)
    assert (after.card.partition, after.card.ipc) == (1, 8)
    assert "4 enlarged tiles of each of 6 images" in after.card.usage


def test_a_form_can_be_made_of_another(a_set, tmp_path):
    path = a_set()
    idm_ray.export(path, out=tmp_path / "tars", form="webdataset")
    idm_ray.export(tmp_path / "tars", out=tmp_path / "a.npz")
    assert torch.equal(idm_ray.load(tmp_path / "a.npz").images, idm_ray.load(path).images)


def test_equal_sets_give_equal_bytes(a_set, tmp_path):
    path = a_set()
    for form in FORMS:
        contents = []
        for name in ("a", "b"):
            out = tmp_path / name / f"set.{form}"
            out.parent.mkdir(exist_ok=True)
            idm_ray.export(path, out=out, form=form)
            files = [out] if out.is_file() else sorted(f for f in out.rglob("*") if f.is_file())
            contents.append([(file.name, file.read_bytes()) for file in files])
        assert contents[0] == contents[1], form


def test_many_images_go_to_several_tars_in_which_classes_take_turns(a_set, out, monkeypatch):
    monkeypatch.setattr("idm_ray.formats.tars._TAR_BYTES", 5 * 48 * 4)
    path = a_set()
    idm_ray.export(path, out=out, form="webdataset")
    assert sorted(file.name for file in out.glob("*.tar")) == ["000000.tar", "000001.tar"]
    assert "{000000..000001}.tar" in (out / "README.md").read_text()
    first = webdataset.WebDataset(str(out / "000000.tar"), shardshuffle=False)
    assert [sample["cls"] for sample in first] == [b"0", b"1", b"2", b"0"]
    assert torch.equal(idm_ray.load(out).images, idm_ray.load(path).images)


def test_a_set_is_exported_to_a_bucket_and_read_there(a_set, store, tmp_path):
    path = a_set()
    for form in FORMS:
        place = f"{store.bucket}/exported/{form}.{form}"
        assert idm_ray.export(path, out=place, form=form).out == place
        found = idm_ray.load(place)
        assert np.array_equal(pixels(found), pixels(idm_ray.load(path)))
    other = a_set(class_names=("a", "b", "c"))
    place = f"{store.bucket}/exported/folder.folder"
    idm_ray.export(other, out=place, form="folder", overwrite=True)
    assert idm_ray.load(place).card.class_names == ("a", "b", "c")
    assert not [file for file in Location.at(place).files() if file.path.startswith("cat")]


# --- forms that others read ---


def test_torchvision_reads_the_same_images_and_labels_from_a_folder(a_set, out):
    path = a_set()
    idm_ray.export(path, out=out)
    ours, theirs = idm_ray.load(path), torchvision.datasets.ImageFolder(out, v2.PILToTensor())
    assert [label for _, label in theirs] == ours.labels.tolist()
    assert np.array_equal(np.stack([image.numpy() for image, _ in theirs]), pixels(ours))
    assert theirs.classes == list(ours.card.class_names)


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_datasets_reads_the_same_images_and_labels(a_set, out, tmp_path, monkeypatch, form):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = a_set()
    idm_ray.export(path, out=out)
    code = """
import sys, json, numpy, datasets
kind, place = sys.argv[1:]
where = {"data_files": place} if kind == "parquet" else {"data_dir": place}
kind = "imagefolder" if kind == "folder" else kind
found = datasets.load_dataset(kind, split="train", **where)
rows = [(numpy.asarray(row["image"]).tolist(), row["label"]) for row in found]
print(json.dumps([found.features["label"].names, rows]))
"""
    command = [sys.executable, "-c", code, form, str(path if form == "parquet" else out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, rows = json.loads(done.stdout.splitlines()[-1])
    ours = idm_ray.load(path)
    assert names == list(ours.card.class_names)
    assert [label for _, label in rows] == ours.labels.tolist()
    shown = np.array([image for image, _ in rows]).transpose(0, 3, 1, 2)
    assert np.array_equal(shown, pixels(ours))


def test_webdataset_reads_the_same_numbers_pictures_and_labels(a_set, out):
    path = a_set()
    idm_ray.export(path, out=out, form="webdataset")
    samples = webdataset.WebDataset(str(out / "000000.tar"), shardshuffle=False)
    found = sorted(samples.decode("rgb8").to_tuple("__key__", "npy", "png", "cls"))
    ours = idm_ray.load(path)
    assert np.array_equal(np.stack([numbers for _, numbers, _, _ in found]), ours.images)
    shown = np.stack([picture for _, _, picture, _ in found]).transpose(0, 3, 1, 2)
    assert np.array_equal(shown, pixels(ours))
    assert [label for _, _, _, label in found] == ours.labels.tolist()


def test_torch_and_numpy_read_their_files_without_running_code(a_set, tmp_path):
    path = a_set()
    ours = idm_ray.load(path)
    idm_ray.export(path, out=tmp_path / "a.pt")
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(saved["images"], ours.images)
    assert torch.equal(saved["labels"], ours.labels)
    assert saved["usage"] == ours.card.usage
    assert saved["card"]["partition"] == 2
    idm_ray.export(path, out=tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], ours.images)
        assert np.array_equal(arrays["labels"], ours.labels)
        assert arrays["class_names"].tolist() == list(ours.card.class_names)
        assert np.array_equal(arrays["mean"], ours.card.mean)
        assert np.array_equal(arrays["std"], ours.card.std)
        assert arrays["partition"] == 2


@pytest.mark.parametrize("form", ["folder", "webdataset"])
def test_a_folder_says_how_to_train_on_it(a_set, out, form):
    path = a_set()
    idm_ray.export(path, out=out, form=form)
    text = " ".join((out / "README.md").read_text().split())
    assert idm_ray.load(path).card.usage in text
    assert "mean [0.49, 0.48, 0.45]" in text
    assert "2 x 2 tiles" in text


def test_the_code_in_the_text_loads_the_images(a_set, out, monkeypatch):
    path = a_set(image_shape=(1, 4, 4), mean=(0.3,), std=(0.4,))
    for form in ("folder", "webdataset"):
        idm_ray.export(path, out=out / form, form=form)
        monkeypatch.chdir(out / form)
        code = (out / form / "README.md").read_text().split("```")[1].removeprefix("python")
        names = {}
        exec(code, names)
        images = np.stack([np.asarray(image) for image, _ in names["images"]])
        ours = idm_ray.load(out / form).images.numpy()
        # Tars have classes in turns.
        order = [0, 1, 2, 3, 4, 5] if form == "folder" else [0, 2, 4, 1, 3, 5]
        np.testing.assert_allclose(images, ours[order], atol=1e-6)


# --- names of class folders ---


def test_class_folders_are_called_like_the_classes_where_that_keeps_their_order():
    assert folder_names(("airplane", "bird", "n01440764")) == ["airplane", "bird", "n01440764"]
    assert folder_names(("dog", "cat")) == ["0-dog", "1-cat"]
    assert folder_names(("Cat", "cat")) == ["0-Cat", "1-cat"]
    assert folder_names(("..", "a/b", "c:d")) == ["0-__", "1-a_b", "2-c_d"]
    many = folder_names(tuple(f"class {n}" for n in range(11)))
    assert many[:2] == ["00-class 0", "01-class 1"]
    assert sorted(many) == many


def test_odd_class_names_come_back(a_set, out):
    path = a_set(class_names=("../up", "a\nb", "maki\u0142a" * 30))
    idm_ray.export(path, out=out)
    assert idm_ray.load(out).card.class_names == idm_ray.load(path).card.class_names
    theirs = torchvision.datasets.ImageFolder(out, v2.PILToTensor())
    assert [label for _, label in theirs] == idm_ray.load(path).labels.tolist()


# --- evaluation ---


def test_every_form_is_evaluated_like_the_set_itself(tmp_path):
    finished = run(tmp_path / "run", partition=2, ipc=2, repeats=1)
    said = idm_ray.evaluate(tmp_path / "run", **HERE).networks
    assert said["convnet-2"]["accuracies"] == finished.summary["evaluation"]["accuracies"]
    for form in NUMBERS:
        for expand in (False, True):
            out = tmp_path / f"{expand}.{form}"
            idm_ray.export(tmp_path / "run", out=out, form=form, expand=expand)
            assert idm_ray.evaluate(out, **HERE).networks == said, (form, expand)
    idm_ray.export(tmp_path / "run", out=tmp_path / "folder")
    assert 0 <= idm_ray.evaluate(tmp_path / "folder", **HERE).networks["convnet-2"]["mean"] <= 1


# --- what is refused ---


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_is_replaced_only_when_told(a_set, tmp_path, form):
    path, out = a_set(), tmp_path / f"exported.{form}"
    idm_ray.export(path, out=out, form=form)
    with pytest.raises(UserError, match=r"^expected a new (file|folder) at .*add --overwrite or"):
        idm_ray.export(path, out=out, form=form)
    idm_ray.export(path, out=out, form=form, expand=True, overwrite=True)
    assert idm_ray.load(out).card.partition == 1


def test_a_folder_of_somebody_else_is_never_replaced(a_set, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    for form in FORMS:
        with pytest.raises(UserError, match="found something else; choose another --out"):
            idm_ray.export(a_set(), out=tmp_path / "photos", form=form, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"a"


def test_an_unknown_form_is_refused(a_set, out):
    with pytest.raises(UserError, match="form must be one of folder, webdataset, pt, npz, got"):
        idm_ray.export(a_set(), out=out, form="jpeg")


def test_what_cannot_be_made_is_left_out_whole(a_set, out, tmp_path, monkeypatch):
    path = a_set()
    before = sorted(tmp_path.iterdir())

    def broken(stored):
        yield "a/b.png", b""
        raise OSError(28, "No space left on device")

    for form in ("folder", "webdataset"):
        monkeypatch.setitem(export_module._FOLDERS, form, broken)
        with pytest.raises(OSError, match="No space left"):
            idm_ray.export(path, out=out, form=form)
        assert sorted(tmp_path.iterdir()) == before


ON_A_DISK = """
import os, sys
import idm_ray
disk, path = sys.argv[1:]
for form in ("folder", "webdataset", "pt", "npz"):
    try:
        idm_ray.export(path, out=f"{disk}/a.{form}", form=form)
    except OSError as error:
        print(form, error.strerror, os.listdir(disk))
"""


def test_a_full_disk_is_told_and_nothing_is_left_on_it(tmp_path):
    card = make_card(image_shape=(3, 64, 64), class_names=tuple("abcdefghijklmnop"))
    images = np.random.default_rng(0).random((card.num_images, 3, 64, 64), np.float32)
    labels = np.repeat(np.arange(16), card.ipc)
    path = tmp_path / "condensed.parquet"
    write_condensed(path, images=images, labels=labels, card=card)
    (tmp_path / "disk").mkdir()
    told = on_a_small_disk(tmp_path / "disk", ON_A_DISK, path, size="128k")
    assert told.splitlines() == [f"{form} No space left on device []" for form in FORMS]


# --- damaged and hostile files ---


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_noticed_or_changes_nothing(a_set, tmp_path, form):
    path, out = a_set(image_shape=(3, 8, 8)), tmp_path / f"exported.{form}"
    idm_ray.export(path, out=out, form=form)
    expected = idm_ray.load(out)
    files = [out] if out.is_file() else [f for f in sorted(out.rglob("*")) if f.suffix != ".md"]
    draws = np.random.default_rng(0)
    for file in filter(lambda file: file.is_file(), files):
        content = file.read_bytes()
        damages = [content[: draws.integers(len(content))] for _ in range(5)]
        for bit in draws.integers(0, 8 * len(content), 200 // len(files) + 5):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << (bit % 8)
            damages.append(bytes(flipped))
        for damaged in damages:
            file.write_bytes(damaged)
            assert_refused_or_equal(out, expected)
        file.write_bytes(content)


def assert_refused_or_equal(path, expected):
    try:
        found = idm_ray.load(path)
    except CondensedSetError as error:
        assert "\n" not in str(error)
        assert "expected" in str(error)
        return
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert found.card == expected.card


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", ["pickle", "torch", "npz", "npy"])
@pytest.mark.parametrize("suffix", [".pt", ".npz", ".parquet"])
def test_a_pickle_under_another_name_is_never_executed(tmp_path, protocol, suffix):
    import pickle  # noqa: PLC0415

    file, attack = tmp_path / f"set{suffix}", Attack(tmp_path / "executed")
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(attack))
    elif protocol == "torch":
        torch.save({"card": attack, "images": attack}, file)
    else:
        hidden = np.array([attack], object)
        with open(file, "wb") as target:
            if protocol == "npz":
                np.savez(target, card=hidden, images=hidden)
            else:
                np.save(target, hidden)
    with pytest.raises(CondensedSetError, match=f"^{file}: expected "):
        idm_ray.load(file)
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_is_no_set_is_named(tmp_path):
    with pytest.raises(CondensedSetError, match=r"found a folder without condensed\.parquet or"):
        idm_ray.load(tmp_path)


def test_a_set_of_a_newer_form_asks_for_a_newer_version(a_set, out):
    idm_ray.export(a_set(), out=out)
    content = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps(content | {"form": "crystal"}))
    with pytest.raises(CondensedSetError, match="found 'crystal'; install a newer version"):
        idm_ray.load(out)


def test_numbers_of_all_kinds_come_back(tmp_path):
    images, labels = make_arrays(make_card())
    write_condensed(tmp_path / "a.parquet", images=images, labels=labels, card=make_card())
    idm_ray.export(tmp_path / "a.parquet", out=tmp_path / "a.pt")
    found = idm_ray.load(tmp_path / "a.pt").images.numpy()
    assert np.array_equal(found.view(np.uint32), images.view(np.uint32))
