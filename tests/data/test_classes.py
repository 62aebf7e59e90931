import numpy as np
import pytest

from idm_ray.config import DataConfig, RunConfig
from idm_ray.data.classes import ClassSubset, parse_classes, write_classes
from idm_ray.data.digits import DigitsSource
from idm_ray.data.sources import find_source
from idm_ray.data.splits import hold_out
from idm_ray.errors import DataError
from idm_ray.resolving import absolute
from tests.data.making import images_of, opened, write_class, write_parquet, write_tree


@pytest.fixture
def zoo(tmp_path):
    """Four classes of ten images, without a split."""
    for label, name in enumerate(("ant", "bee", "cat", "dog")):
        write_class(tmp_path / "zoo" / name, 10, first=100 * label)
    return tmp_path / "zoo"


@pytest.mark.parametrize(
    "written, names",
    [
        ("bee,ant", ("bee", "ant")),
        (" bee , ant, ", ("bee", "ant")),
        ("n01\nn02, n03\n", ("n01", "n02", "n03")),
        ("n01,\n n02,\n", ("n01", "n02")),
        ('"tench, Tinca tinca",goldfish', ("tench, Tinca tinca", "goldfish")),
        ("T-shirt/top,Ankle boot", ("T-shirt/top", "Ankle boot")),
        (",".join(f"n{number:08d}" for number in range(1000)), None),
    ],
)
def test_names_are_separated_by_commas(written, names):
    parsed = parse_classes(written)
    assert parsed == names if names else len(parsed) == 1000


def test_a_file_has_one_name_per_line_and_comments(tmp_path):
    path = tmp_path / "some, of them.txt"
    path.write_text(
        "\ufeff# my classes\nbee\n\n  ant # six legs\nc#\ntench, Tinca tinca\n", "utf-8"
    )
    assert parse_classes(str(path)) == ("bee", "ant", "c#", "tench, Tinca tinca")


@pytest.mark.parametrize("names", [("bee", "ant"), ('15" screen', "tench, Tinca tinca"), ("x",)])
def test_written_names_are_read_as_they_were(names):
    assert parse_classes(write_classes(names)) == names


@pytest.mark.parametrize(
    "written, message",
    [
        ("", "expected class names with --classes, found none in '': give some"),
        (" ,, ", "found none in ' ,, '"),
        ("ant,bee,ant", "expected every class once with --classes, found 'ant' more than once"),
    ],
)
def test_text_without_names_or_with_one_twice_is_refused(written, message):
    with pytest.raises(DataError, match=message):
        parse_classes(written)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match=r"one class name per line, found .*list in another enc"):
        parse_classes(str(tmp_path / "list"))


def test_labels_are_the_order_in_which_classes_are_given(zoo, tmp_path):
    whole = opened(zoo, tmp_path / "cache")
    some = opened(zoo, tmp_path / "cache", classes="dog,bee")
    assert some.info.class_names == ("dog", "bee")
    assert some.info.train_counts == (8, 8)
    for split, of_whole in ((some.train, whole.train), (some.test, whole.test)):
        for label, number in enumerate((3, 1)):
            expected = images_of(of_whole, of_whole.class_rows(number))
            assert (images_of(split, split.class_rows(label)) == expected).all()


def test_the_test_images_of_a_class_do_not_depend_on_the_classes_beside_it(zoo):
    whole = find_source(DataConfig(data=str(zoo))).listing()
    is_test = whole.is_test[whole.labels == 3]
    assert (is_test != whole.is_test[whole.labels == 0]).any()
    for written in ("dog,ant", "bee,dog,cat", "dog"):
        listing = find_source(DataConfig(data=str(zoo), classes=written)).listing()
        label = listing.class_names.index("dog")
        assert (listing.is_test[listing.labels == label] == is_test).all()


def test_a_split_and_a_limit_go_on_working(tmp_path):
    root = write_tree(tmp_path / "insects", train=5)
    write_class(root / "train" / "wasp", 5, first=50)
    write_class(root / "val" / "wasp", 1, first=70)
    data = opened(root, tmp_path / "cache", classes="wasp,ant", limit_per_class=2)
    assert data.info.train_counts == (2, 2)
    assert data.info.test_counts == (1, 2)


def test_a_class_that_is_left_out_may_lack_images(tmp_path):
    root = write_tree(tmp_path / "insects")
    (root / "train" / "cicada").mkdir()
    assert opened(root, tmp_path / "cache", classes="bee,ant").info.class_names == ("bee", "ant")


def test_parquet_rows_of_other_classes_are_passed_over(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [0, 1, 2] * 4, class_names=["ant", "bee", "cat"])
    whole = opened(path, tmp_path / "cache")
    some = opened(path, tmp_path / "cache", classes="cat,ant")
    assert (images_of(some.train, some.train.class_rows(1)) == images_of(whole.train)[:3]).all()
    assert some.info.train_counts == (3, 3)


def test_known_data_stay_known_by_their_source(tmp_path):
    whole = opened("digits", tmp_path / "cache")
    some = opened("digits", tmp_path / "cache", classes="7,1")
    assert some.info.known_as == "digits"
    assert not some.info.flips
    assert (
        images_of(some.test, some.test.class_rows(0))
        == images_of(whole.test)[whole.test.labels == 7]
    ).all()


def test_the_choice_and_its_order_are_part_of_the_cache_key(zoo, tmp_path):
    for written in ("ant,bee", "bee,ant", "ant,bee,cat", '"ant", "bee"'):
        opened(zoo, tmp_path / "cache", classes=written)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 3


@pytest.mark.parametrize(
    "written, message",
    [
        ("ant,bea", "file or classes of zoo, found 'bea': did you mean 'bee'"),
        ("list.txt", "found 'list.txt': it has 'ant', 'bee', 'cat' and 1 more"),
        ("1,2,3,4,5,ant", "found '1', '2', '3' and 2 more: it has"),
    ],
)
def test_a_class_that_the_data_lack_names_the_nearest(zoo, tmp_path, written, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(zoo, tmp_path / "cache", classes=written)
    assert "\n" not in str(caught.value)


def test_one_class_alone_is_refused(zoo, tmp_path):
    with pytest.raises(DataError, match=r"two or more classes, found 1 \(ant\)"):
        opened(zoo, tmp_path / "cache", classes="ant")


def test_every_process_gets_the_names_wherever_it_runs(tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("7\n1\n")
    monkeypatch.chdir(tmp_path)
    assert absolute(RunConfig.from_flat({"classes": "list.txt"})).data.classes == "7,1"
    assert absolute(RunConfig()).data.classes is None


def test_rows_of_a_subset_are_read_one_by_one_where_the_source_can():
    source = ClassSubset(DigitsSource(), ("3", "5"))
    listing = source.listing()
    rows = np.array([0, 4, len(listing.labels) - 1])
    names = [image.name for image in source.read(rows)]
    whole = DigitsSource().listing()
    expected = np.flatnonzero(np.isin(whole.labels, (3, 5)))[rows]
    assert names == [f"digit {row}" for row in expected]


def test_holding_out_is_the_whole_source_s_business():
    whole = DigitsSource().listing()
    assert (whole.is_test == hold_out(whole.labels, 0.2)).all()
    some = ClassSubset(DigitsSource(), ("9", "0")).listing()
    assert (some.is_test == whole.is_test[np.isin(whole.labels, (0, 9))]).all()


def test_every_source_says_whether_a_row_can_be_read_alone(zoo, tmp_path):
    parquet = write_parquet(tmp_path / "x.parquet", ["a", "b"])
    expected = {"digits": True, str(zoo): True, str(parquet): False}
    for written, is_random_access in expected.items():
        for classes in (None, "a,b"):
            source = find_source(DataConfig(data=written, classes=classes))
            assert source.is_random_access is is_random_access
