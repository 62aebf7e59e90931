import io
import logging
import shutil
import tarfile

import numpy as np
import pytest
import scipy.io

from idm_ray.config import DataConfig
from idm_ray.data.known import IMAGENET_SUBSET
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError
from tests.data.making import opened, picture
from tests.sending import sent

# Sorted in another order than the numbers of the development kit and the tar.
NAMES = ("n02111889", "n01440764", "n03000684")
TRAIN, VAL, DEVKIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)


def jpeg(number, mode="RGB"):
    buffer = io.BytesIO()
    picture(number, mode=mode).save(buffer, format="JPEG")
    return buffer.getvalue()


def plain(name, content):
    """A plain member of a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name, kind, linkname=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member, b""


def tar_bytes(members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def class_images(label, count=5):
    numbers = range(100 * label, 100 * label + count)
    return [plain(f"{NAMES[label]}_{number}.JPEG", jpeg(number)) for number in numbers]


def class_tars(count=5):
    return [plain(f"{name}.tar", tar_bytes(class_images(n, count))) for n, name in enumerate(NAMES)]


def devkit_files():
    """Numbers 1, 2, 3 are NAMES; 4 is an inner node of WordNet, as in the published file."""
    rows = [(n + 1, name, "words", 0) for n, name in enumerate((*NAMES, "n00001740"))]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    truth = "".join(f"{n % 3 + 1}\n" for n in range(6)).encode()
    return [
        plain("ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue()),
        plain("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth),
        plain("ILSVRC2012_devkit_t12/readme.txt", b"read me"),
    ]


def val_images(count=6):
    numbers = range(1, count + 1)
    return [plain(f"ILSVRC2012_val_{n:08d}.JPEG", jpeg(500 + n)) for n in numbers]


def write_train(root, members):
    root.mkdir(exist_ok=True)
    (root / TRAIN).write_bytes(tar_bytes(members))


@pytest.fixture
def root(tmp_path):
    """Three classes of five training images and two validation images each."""
    write_train(tmp_path / "ilsvrc", class_tars())
    (tmp_path / "ilsvrc" / VAL).write_bytes(tar_bytes(val_images()))
    (tmp_path / "ilsvrc" / DEVKIT).write_bytes(tar_bytes(devkit_files(), "w:gz"))
    return tmp_path / "ilsvrc"


def source_of(path, **options):
    return find_source(DataConfig(data=str(path), **options))


def contents(source, rows):
    return [image.encoded() for image in source.read(np.array(rows))]


def test_the_training_tar_and_the_validation_tar_become_two_splits(root, tmp_path):
    data = opened(root, tmp_path / "cache")
    assert data.info.name == "imagenet"
    assert data.info.class_names == tuple(sorted(NAMES))
    assert data.info.train_counts == (5, 5, 5)
    assert data.info.test_counts == (2, 2, 2)
    assert data.info.skipped == 0


def test_encoded_bytes_are_those_of_the_members(root):
    source = source_of(root)
    listing = source.listing()
    assert listing.labels.tolist() == [1] * 5 + [0] * 5 + [2] * 5 + [1, 0, 2] * 2
    assert listing.is_test.tolist() == [False] * 15 + [True] * 6
    assert source.is_random_access
    expected = [jpeg(0), jpeg(4), jpeg(100), jpeg(204), jpeg(501), jpeg(506)]
    assert contents(source, [0, 4, 5, 14, 15, 20]) == expected
    (image,) = source.read(np.array([6]))
    assert image.name == f"{TRAIN}: n01440764_101.JPEG"


def test_the_tar_itself_names_the_source(root, tmp_path):
    by_folder = opened(root, tmp_path / "cache")
    by_file = opened(root / TRAIN, tmp_path / "cache")
    assert by_folder.info.fingerprint == by_file.info.fingerprint
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_an_unpacked_development_kit_serves_too(root, tmp_path):
    packed = source_of(root).listing()
    with tarfile.open(root / DEVKIT) as tar:
        for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
            file = root / "ILSVRC2012_devkit_t12" / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tar.extractfile(f"ILSVRC2012_devkit_t12/data/{name}").read())
    (root / DEVKIT).unlink()
    assert (source_of(root).listing().labels == packed.labels).all()


def test_without_a_validation_tar_some_of_each_class_are_held_out(root, tmp_path):
    (root / VAL).unlink()
    data = opened(root, tmp_path / "cache", test_fraction=0.4)
    assert data.info.train_counts == (3, 3, 3)
    assert data.info.test_counts == (2, 2, 2)
    other = opened(root, tmp_path / "cache", test_fraction=0.2)
    assert other.info.test_counts == (1, 1, 1)


def test_a_validation_tar_without_labels_names_both_remedies(root, tmp_path):
    (root / DEVKIT).unlink()
    with pytest.raises(DataError, match=r"expected ILSVRC2012_devkit.*: put it there, or move the"):
        opened(root, tmp_path / "cache")


def test_chosen_classes_get_the_labels_of_their_order(root, tmp_path):
    data = opened(root, tmp_path / "cache", classes="n03000684,n01440764", limit_per_class=2)
    assert data.info.class_names == ("n03000684", "n01440764")
    assert data.info.train_counts == (2, 2)
    assert data.info.test_counts == (2, 2)


def test_the_subset_of_the_paper_is_recognised_by_its_classes(tmp_path):
    content = tar_bytes([plain(f"{n}.JPEG", jpeg(n)) for n in range(2)])
    names = [*sorted(IMAGENET_SUBSET), *NAMES]
    write_train(tmp_path / "ilsvrc", [plain(f"{name}.tar", content) for name in names])
    classes = ",".join(IMAGENET_SUBSET)
    data = opened(tmp_path / "ilsvrc", tmp_path / "cache", size=224, classes=classes)
    assert data.info.known_as == "imagenet_subset"
    assert data.info.class_names == IMAGENET_SUBSET


def test_what_is_no_image_is_counted_and_never_followed(root, tmp_path, caplog):
    (tmp_path / "secret.JPEG").write_bytes(jpeg(999))
    odd = [
        plain("../secret.JPEG", jpeg(1)),
        plain("/etc/passwd.JPEG", jpeg(1)),
        plain("deeper/n01440764_1.JPEG", jpeg(1)),
        special("link.JPEG", tarfile.SYMTYPE, str(tmp_path / "secret.JPEG")),
        special("hard.JPEG", tarfile.LNKTYPE, "n02111889_0.JPEG"),
        special("device.JPEG", tarfile.CHRTYPE),
        special("pipe.JPEG", tarfile.FIFOTYPE),
        plain("model.pkl", b"not read"),
        plain("x" * 300 + ".JPEG", jpeg(1)),
    ]
    folder = special(".", tarfile.DIRTYPE)
    whole = [plain("./kept.JPEG", jpeg(7)), folder, *odd, *class_images(0)]
    outer = [
        plain(f"{NAMES[0]}.tar", tar_bytes(whole)),
        *class_tars()[1:],
        special("n09999999.tar", tarfile.SYMTYPE, f"{NAMES[0]}.tar"),
        plain("../n09999998.tar", tar_bytes(class_images(0))),
        plain("notes.txt", b"hello"),
    ]
    write_train(root, outer)
    source = source_of(root)
    with caplog.at_level(logging.WARNING):
        listing = source.listing()
    assert source.num_ignored == len(odd) + 3
    assert f"{TRAIN}: ignored {len(odd) + 3} members" in caplog.text
    assert listing.class_names == tuple(sorted(NAMES))
    assert np.bincount(listing.labels[~listing.is_test]).tolist() == [5, 6, 5]
    assert contents(source, [0]) == [jpeg(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ilsvrc", "secret.JPEG"]


def test_validation_images_of_classes_without_training_images_are_left_out(root):
    write_train(root, class_tars()[:2])
    listing = source_of(root).listing()
    assert listing.labels[listing.is_test].tolist() == [1, 0, 1, 0]


def test_a_source_that_is_sent_takes_its_index_along(root):
    source = source_of(root, classes="n03000684,n02111889")
    expected = source.listing()
    copied = sent(source)
    shutil.move(root / VAL, root / "elsewhere")
    assert (copied.listing().labels == expected.labels).all()
    assert contents(copied, [0, 5]) == [jpeg(0), jpeg(200)]


def test_a_tar_that_became_shorter_makes_its_images_unreadable(root):
    source = source_of(root)
    source.listing()
    (root / TRAIN).write_bytes((root / TRAIN).read_bytes()[:3000])
    with pytest.raises(ValueError, match=f"{TRAIN} has become shorter"):
        contents(source, [14])


def cut(root, name, position):
    (root / name).write_bytes((root / name).read_bytes()[:position])


def offsets(path):
    with tarfile.open(path) as tar:
        return [(member.offset, member.offset_data, member.size) for member in tar]


@pytest.mark.parametrize("where", ["in its content", "in its header", "before its header"])
def test_a_truncated_training_tar_names_the_last_whole_class(root, where):
    header, start, size = offsets(root / TRAIN)[2]
    at = {"in its content": start + size // 2, "in its header": header + 100}
    cut(root, TRAIN, at.get(where, header))
    with pytest.raises(
        DataError, match=r"img_train.tar truncated.*last whole member is 'n01440764"
    ):
        source_of(root).listing()


def test_a_truncated_validation_tar_names_the_last_whole_image(root):
    cut(root, VAL, offsets(root / VAL)[3][1] + 5)
    with pytest.raises(
        DataError, match=r"val_00000004.JPEG' does not fit\).*is '.*_00000003.JPEG'"
    ):
        source_of(root).listing()


def test_a_class_tar_damaged_inside_names_itself_and_its_last_whole_image(root):
    inner = bytearray(tar_bytes(class_images(1)))
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        header = tar.getmembers()[2].offset
    inner[header : header + 512] = b"\x07" * 512
    whole = class_tars()
    write_train(root, [whole[0], plain(f"{NAMES[1]}.tar", bytes(inner)), whole[2]])
    with pytest.raises(
        DataError, match=r"n01440764.tar in .*train.tar .*'n01440764_101.JPEG': copy"
    ):
        source_of(root).listing()


def test_a_class_tar_without_an_end_mark_is_whole(root):
    inner = tar_bytes(class_images(0)).rstrip(b"\0")
    inner += bytes(-len(inner) % 512)
    write_train(root, [plain(f"{NAMES[0]}.tar", inner), *class_tars()[1:]])
    listing = source_of(root).listing()
    assert np.bincount(listing.labels[~listing.is_test]).tolist() == [5, 5, 5]


@pytest.mark.parametrize("content", [b"", b"x", b"not a tar" * 1000, bytes(100)])
def test_a_training_tar_that_is_none_is_refused(root, content):
    (root / TRAIN).write_bytes(content)
    with pytest.raises(DataError, match=r"expected (a whole tar|tars such as n01440764.tar)"):
        source_of(root).listing()


def test_a_tar_of_other_things_is_refused(root):
    write_train(root, class_images(0))
    with pytest.raises(
        DataError, match=r"expected tars such as n01440764.tar in .*: give ImageNet"
    ):
        source_of(root).listing()


def test_a_class_twice_is_refused(root):
    write_train(root, [*class_tars(), class_tars()[0]])
    with pytest.raises(DataError, match="found two of n02111889: download"):
        source_of(root).listing()


def test_more_validation_images_than_labels_are_refused(root):
    (root / VAL).write_bytes(tar_bytes(val_images(8)))
    with pytest.raises(DataError, match=r"expected 6 images in .*val.tar .*, found number 8: take"):
        source_of(root).listing()


@pytest.mark.parametrize(
    "members",
    [
        [],
        devkit_files()[:1],
        [plain("x/data/meta.mat", b"no mat file"), devkit_files()[1]],
        [devkit_files()[0], plain("x/data/ILSVRC2012_validation_ground_truth.txt", b"1\n99\n")],
        [devkit_files()[0], plain("x/data/ILSVRC2012_validation_ground_truth.txt", b"one\n")],
        [devkit_files()[0], plain("x/data/ILSVRC2012_validation_ground_truth.txt", b"\n")],
        [special("x/data/meta.mat", tarfile.SYMTYPE, "/etc/passwd"), devkit_files()[1]],
    ],
)
def test_a_damaged_development_kit_is_refused_in_one_line(root, members):
    (root / DEVKIT).write_bytes(tar_bytes(members, "w:gz"))
    with pytest.raises(DataError, match=r"found .*tar.gz damaged or incomplete .*: down") as caught:
        source_of(root).listing()
    assert "\n" not in str(caught.value)


def test_a_truncated_development_kit_is_refused(root):
    cut(root, DEVKIT, 200)
    with pytest.raises(DataError, match="damaged or incomplete"):
        source_of(root).listing()


def test_other_files_are_another_cache(root, tmp_path):
    before = list(source_of(root).identity())
    write_train(root, class_tars(4))
    assert before != list(source_of(root).identity())
    (root / VAL).unlink()
    assert "test_fraction 0.2" in list(source_of(root).identity())
