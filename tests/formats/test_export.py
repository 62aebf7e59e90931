"""Every form of a condensed set holds the same images, and says how to use them."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import webdataset
from torchvision.transforms import v2

import idm_ray
from idm_ray.errors import CondensedSetError, UserError
from idm_ray.formats import export as export_module
from idm_ray.formats import npz
from idm_ray.formats.forms import FORMS
from idm_ray.formats.image_folder import folder_names
from idm_ray.formats.stored import StoredSet
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
    (long,) = folder_names(("\u4e2d" * 85,))
    assert long == "0-" + "\u4e2d" * 66


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
    with pytest.raises(UserError, match=r"found an earlier export; add --overwrite or"):
        idm_ray.export(path, out=out, form=form)
    idm_ray.export(path, out=out, form=form, expand=True, overwrite=True)
    assert idm_ray.load(out).card.partition == 1


def tree(folder):
    """All files below a folder, with their contents."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FOREIGN = [
    ("folder", {"photos/a.jpg": b"a"}, "a folder without a sound card.json"),
    ("folder", {"card.json": b"{}", "a.txt": b"a"}, "a folder without a sound card.json"),
    ("webdataset", {"000000.tar": b""}, "a folder without a sound card.json"),
    ("npz", {"": b"precious"}, "another file"),
    ("pt", {"": b"precious"}, "another file"),
    ("pt", {"a.txt": b"precious"}, "a folder"),
    ("folder", {"": b"precious"}, "a file"),
]


@pytest.mark.parametrize(("form", "files", "found"), FOREIGN)
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_export_is_never_replaced(a_set, tmp_path, form, files, found, overwrite):
    out = tmp_path / f"there.{form}"
    for name, content in files.items():
        path = out / name if name else out
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    path, before = a_set(), tree(tmp_path)
    with pytest.raises(UserError, match=f"at {out}, found {found}; choose another --out"):
        idm_ray.export(path, out=out, form=form, overwrite=overwrite)
    assert tree(tmp_path).items() >= before.items()


@pytest.mark.parametrize("form", ["folder", "webdataset"])
@pytest.mark.parametrize("name", ["mine.txt", ".hidden", "cat/mine.png", "condensed.parquet"])
def test_an_export_with_something_beside_it_is_not_replaced(a_set, out, form, name):
    path = a_set()
    idm_ray.export(path, out=out, form=form)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"mine")
    before = tree(out)
    with pytest.raises(UserError, match=f"found '{name}' in it; choose another --out"):
        idm_ray.export(path, out=out, form=form, overwrite=True)
    assert tree(out) == before


def test_an_export_with_something_beside_it_in_a_bucket_is_not_replaced(a_set, store):
    place = Location.at(store.bucket) / "beside"
    idm_ray.export(a_set(), out=str(place), form="folder")
    (place / "project" / "weights.bin").write_bytes(b"w")
    with pytest.raises(UserError, match=r"found 'project/weights\.bin' in it"):
        idm_ray.export(a_set(), out=str(place), form="folder", overwrite=True)
    assert (place / "project" / "weights.bin").read_bytes() == b"w"


def test_an_end_between_old_and_new_keeps_the_old(a_set, out, monkeypatch):
    path = a_set()
    idm_ray.export(path, out=out)
    before, rename = tree(out), Path.rename

    def interrupted(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        idm_ray.export(path, out=out, expand=True, overwrite=True)
    assert tree(out) == before
    assert [entry.name for entry in out.parent.iterdir() if entry.name.startswith(".")] == []


def test_a_folder_that_comes_meanwhile_stays(a_set, out, monkeypatch):
    path, files = a_set(), export_module._FOLDERS["folder"]

    def slow(stored):
        yield from files(stored)
        out.mkdir()
        (out / "mine.txt").write_bytes(b"mine")

    monkeypatch.setitem(export_module._FOLDERS, "folder", slow)
    with pytest.raises(OSError, match="not empty"):
        idm_ray.export(path, out=out)
    assert tree(out) == {out / "mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("pt", "set", r"expected --out to end in \.pt, got .*set'"),
        ("npz", "set.pt", r"expected --out to end in \.npz"),
        ("folder", "set.PT", "called like a file; choose another --out or --format"),
        (None, "set.tar", "expected a folder for the form folder, got .*set.tar'"),
        ("webdataset", "set.parquet", "expected a folder for the form webdataset"),
        (None, "bad\udcff", "out must be a path in UTF-8"),
    ],
)
def test_a_name_that_contradicts_the_form_is_refused(a_set, tmp_path, form, name, message):
    with pytest.raises(UserError, match=message):
        idm_ray.export(a_set(), out=f"{tmp_path}/{name}", form=form)
    with pytest.raises(UserError, match="out must be a path in UTF-8, got ''"):
        idm_ray.export(a_set(), out="")


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


def rewritten(path, **changes):
    """A NumPy archive with some arrays replaced."""
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **content)


def test_what_is_beside_the_images_is_checked_as_well(a_set, tmp_path):
    path, npz, pt = a_set(), tmp_path / "a.npz", tmp_path / "a.pt"
    for name, other in {"labels": np.arange(6), "std": np.ones(3), "usage": np.array("x")}.items():
        idm_ray.export(path, out=npz, overwrite=npz.exists())
        rewritten(npz, **{name: other})
        with pytest.raises(CondensedSetError, match=f"^{npz}: expected .*{name}"):
            idm_ray.load(npz)
        npz.unlink()
    idm_ray.export(path, out=pt)
    saved = torch.load(pt, weights_only=True)
    for name, other in {"labels": saved["labels"].flip(0), "class_names": ["a", "b", "c"]}.items():
        torch.save(saved | {name: other}, pt)
        with pytest.raises(CondensedSetError, match=f"^{pt}: expected .*(labels|class_names)"):
            idm_ray.load(pt)


def test_labels_in_a_tar_are_checked_as_well(a_set, out):
    idm_ray.export(a_set(), out=out, form="webdataset")
    content = (out / "000000.tar").read_bytes()
    start = content.index(b"00001_0000.cls") + 512
    assert content[start : start + 2] == b"1\0"
    changed = bytearray(content)
    changed[start : start + 1] = b"2"
    (out / "000000.tar").write_bytes(changed)
    with pytest.raises(CondensedSetError, match="expected the labels of the card, found others"):
        idm_ray.load(out)


@pytest.mark.parametrize("name", ["a.npz", "a.pt"])
def test_compressed_members_are_refused_unread(a_set, tmp_path, name):
    file = tmp_path / name
    idm_ray.export(a_set(), out=file)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(CondensedSetError, match="compressed or encrypted; write it again with"):
        idm_ray.load(file)


def test_a_tensor_that_repeats_itself_is_refused(a_set, tmp_path):
    idm_ray.export(a_set(), out=tmp_path / "a.pt")
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    saved["images"] = torch.zeros(1).expand(saved["images"].shape)
    torch.save(saved, tmp_path / "a.pt")
    with pytest.raises(CondensedSetError, match=r"expected float32 \(6, 3, 4, 4\)"):
        idm_ray.load(tmp_path / "a.pt")


@pytest.mark.parametrize("form", ["folder", "webdataset"])
def test_a_card_of_more_images_than_there_are_costs_nothing(a_set, out, form):
    from idm_ray.results.card import seal  # noqa: PLC0415

    idm_ray.export(a_set(), out=out, form=form)
    sealed = json.loads(seal(make_card(ipc=10**9), "0"))
    (out / "card.json").write_text(json.dumps({"form": form, "card": sealed}))
    with pytest.raises(CondensedSetError, match="expected 3000000000 images, found only"):
        idm_ray.load(out)


def test_a_compressed_tar_is_refused(a_set, out):
    import gzip  # noqa: PLC0415

    idm_ray.export(a_set(), out=out, form="webdataset")
    tar = out / "000000.tar"
    tar.write_bytes(gzip.compress(tar.read_bytes(), 0))
    with pytest.raises(CondensedSetError, match="expected a condensed set, found a damaged or for"):
        idm_ray.load(out)


def test_a_picture_that_could_be_a_bomb_is_refused(a_set, out):
    from PIL import Image  # noqa: PLC0415

    idm_ray.export(a_set(), out=out)
    Image.new("RGB", (10000, 10000)).save(out / "cat" / "00000_0000.png")
    with pytest.raises(CondensedSetError, match="expected an image of the card's size, found"):
        idm_ray.load(out)


def test_what_is_not_finite_is_refused(a_set, tmp_path, monkeypatch):
    loaded = idm_ray.load(a_set())
    images = loaded.images.numpy()
    images[0, 0, 0, 0] = np.nan
    stored = StoredSet(images=images, labels=loaded.labels.numpy(), card=loaded.card)
    with open(tmp_path / "a.npz", "wb") as file:
        npz.write(file, stored)
    with pytest.raises(CondensedSetError, match="expected finite pixels, found NaN or infinity"):
        idm_ray.load(tmp_path / "a.npz")


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
