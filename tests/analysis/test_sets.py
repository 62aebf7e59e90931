import dataclasses

import pytest

from idm_ray.analysis.sets import check_fit, common_network, read_sets
from idm_ray.errors import CondensedSetError, UserError
from tests.analysis.making import digits_card, digits_plan, write_real_digits, write_set
from tests.results.sets import make_arrays, make_card


@pytest.fixture
def write(tmp_path):
    """Writes a set of made-up images below a folder of this test."""

    def written(name, **changes):
        card = make_card(**changes)
        return write_set(tmp_path / name, make_arrays(card)[0], card)

    return written


def names(*files):
    return [one.name for one in read_sets(files)]


def refusal(*files):
    with pytest.raises(UserError) as raised:
        read_sets(files)
    return str(raised.value)


def test_sets_are_called_by_what_made_them(write):
    files = (
        write("a/condensed.parquet", method="dm", partition=1),
        write("b/condensed.parquet"),
        write("c/condensed.parquet", ipc=5),
    )
    assert names(*files) == ["dm-l1-ipc2", "idm-l2-ipc2", "idm-l2-ipc5"]
    assert [one.file for one in read_sets(files)] == [str(file) for file in files]


def test_sets_that_were_made_alike_are_called_by_where_they_are(write):
    files = (
        write("with queue/condensed.parquet"),
        write("other/condensed.parquet").parent,
        write("third.parquet"),
    )
    assert names(*files) == ["with-queue", "other", "third"]


def test_sets_that_cannot_be_told_apart_are_numbered(write):
    one, other = write("a/run/condensed.parquet"), write("b/run/condensed.parquet")
    assert names(one, other, one) == ["run-1", "run-2", "run-3"]
    assert names(one) == ["idm-l2-ipc2"]


def test_a_name_is_fit_for_a_file(write):
    odd = write(f"{'x' * 80} [ü] #/condensed.parquet")
    assert names(odd, write("b/condensed.parquet")) == ["x" * 60, "b"]
    strange = write("a [ü] #/condensed.parquet")
    assert names(strange, write("b/condensed.parquet")) == ["a-ü-", "b"]


def test_no_set_at_all_is_refused():
    assert refusal() == "expected a condensed set or several, got none; name their files"


def test_a_damaged_set_is_refused(write):
    path = write("a/condensed.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CondensedSetError, match="copy or download the file again"):
        read_sets([path])


def test_sets_of_other_classes_are_refused(write):
    cats = write("cats.parquet")
    dogs = write("dogs.parquet", class_names=("pug", "hound", "poodle", "corgi"))
    assert refusal(cats, dogs) == (
        f"expected sets of the same classes, got 3 (cat, dog, maki\u0142a) in {cats} and 4 (pug, "
        f"hound, poodle, ...) in {dogs}; compare sets of one data set"
    )


def test_sets_of_other_sizes_are_refused(write):
    small, large = write("small.parquet"), write("large.parquet", image_shape=(3, 8, 8))
    assert refusal(small, large) == (
        f"expected sets of one image size, got 3x4x4 in {small} and 3x8x8 in {large}; compare sets "
        "of one size"
    )


def test_sets_of_several_networks_need_a_choice(write):
    sets = read_sets([write("a.parquet"), write("b.parquet", network="alexnet")])
    assert common_network(sets[:1]) == "convnet"
    with pytest.raises(UserError) as raised:
        common_network(sets)
    assert str(raised.value) == (
        "expected sets that were condensed with one network, whose features are compared, got "
        "convnet and alexnet; choose one by --network"
    )


def test_the_data_must_be_those_of_the_sets(tmp_path):
    info = digits_plan()[0].info
    sets = read_sets([write_real_digits(tmp_path / "real.parquet")])
    check_fit(sets, info)
    check_fit(sets, dataclasses.replace(info, mean=(0.1,), fingerprint="of others"))
    with pytest.raises(UserError) as raised:
        check_fit(sets, dataclasses.replace(info, class_names=("ant", "bee")))
    assert str(raised.value) == (
        f"expected data of the classes of {tmp_path}/real.parquet, 10 (0, 1, 2, ...), got 2 (ant, "
        "bee); name the data that it was made of, with the same --classes"
    )
    with pytest.raises(UserError) as raised:
        check_fit(sets, dataclasses.replace(info, image_shape=(1, 16, 16)))
    assert str(raised.value) == (
        f"expected data of the size of {tmp_path}/real.parquet, 1x8x8, got 1x16x16; use --size 8"
    )
    assert digits_card(info).image_shape == info.image_shape
