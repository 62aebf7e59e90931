import io
import tarfile
import tracemalloc

import pytest

from idm_ray.data.tars import images_within, join

COUNT = 2000


@pytest.fixture
def path(tmp_path):
    """A tar of 2000 images, some of them with long names, and a folder."""
    path = tmp_path / "many.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(COUNT):
            member = tarfile.TarInfo(f"{'long' * 30 * (number % 100 == 0)}{number}.jpg")
            member.size = number % 7
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return path


def index(path):
    with path.open("rb") as file:
        return images_within(file, path, 0, path.stat().st_size)


def test_every_member_is_found_where_tarfile_finds_it(path):
    images = index(path)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    names = [name.decode() for name in images.names]
    assert list(zip(names, images.offsets, images.sizes, strict=True)) == expected
    assert images.num_ignored == 0


def test_an_index_takes_little_memory_per_member(path):
    index(path)
    tracemalloc.start()
    images = index(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Names are as wide as the longest. tarfile alone would keep more than a kilobyte of each.
    assert peak < COUNT * (images.names.itemsize + 400)


def test_tars_are_joined_in_order(path):
    one = index(path)
    both = join([one, one])
    assert both.names.tolist() == [*one.names.tolist(), *one.names.tolist()]
    assert both.offsets[COUNT + 5] == one.offsets[5]
    assert len(join([]).names) == 0
