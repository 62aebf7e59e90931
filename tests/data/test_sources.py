import pytest

from idm_ray.config import DataConfig
from idm_ray.data.sources import find_source, source_bytes
from idm_ray.errors import DataError
from tests.data.making import write_tree


@pytest.mark.parametrize(
    "written, remedy",
    [
        ("digts", "did you mean 'digits'"),
        ("tinyimagenet", "give the path of a folder with the images of tinyimagenet"),
        ("qqqq", "give the path of a folder with class folders or"),
        (
            "/nowhere/at/all",
            "mnist, fashionmnist, svhn or an existing path, found '/nowhere/at/all'",
        ),
    ],
)
def test_an_unknown_word_or_path_names_the_remedy(tmp_path, monkeypatch, written, remedy):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        find_source(DataConfig(data=written))
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_path_names_its_neighbour(tmp_path):
    (tmp_path / "insects").mkdir()
    with pytest.raises(DataError, match=r"did you mean '.*/insects'"):
        find_source(DataConfig(data=str(tmp_path / "insect")))


def test_a_folder_has_its_own_name_however_it_is_written(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "insects")
    monkeypatch.chdir(root / "train")
    for written in (str(root), f"{root}/", ".."):
        assert find_source(DataConfig(data=written)).name == "insects"


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected images .* or .*parquet files .*, found none"):
        find_source(DataConfig(data=str(tmp_path)))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"found the file .*images.zip: give the folder"):
        find_source(DataConfig(data=str(tmp_path / "images.zip")))


def test_a_path_that_the_system_refuses_is_refused_in_one_line():
    with pytest.raises(DataError, match=r"cannot read '.*' \(File name too long\): check the path"):
        find_source(DataConfig(data="x" * 5000))


def test_the_size_of_a_source_is_that_of_its_files(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(b"12345")
    (tmp_path / "b.parquet").write_bytes(b"123")
    (tmp_path / ".hidden").write_bytes(b"1")
    assert source_bytes(DataConfig(data=str(tmp_path))) == 8
    assert source_bytes(DataConfig(data=str(tmp_path / "b.parquet"))) == 3
    assert source_bytes(DataConfig()) == 0
