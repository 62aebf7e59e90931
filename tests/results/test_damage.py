import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idm_ray.errors import CondensedSetError
from idm_ray.results.card import seal
from idm_ray.results.columns import make_schema
from idm_ray.results.condensed import read_arrays, read_card, write_condensed
from idm_ray.results.footer import seal_footer
from tests.results.sets import make_arrays, make_card


@pytest.fixture
def path(tmp_path):
    card = make_card()
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "condensed.parquet", images=images, labels=labels, card=card)
    return tmp_path / "condensed.parquet"


def assert_refused_or_harmless(path, content):
    path.write_bytes(content)
    try:
        images, labels, card = read_arrays(path)
    except CondensedSetError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{path}: expected ")
        return
    expected_images, expected_labels = make_arrays(make_card())
    np.testing.assert_array_equal(images.view(np.uint32), expected_images.view(np.uint32))
    np.testing.assert_array_equal(labels, expected_labels)
    assert card == make_card()


def test_a_flipped_bit_is_noticed_or_changes_nothing(path):
    content = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 400):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        assert_refused_or_harmless(path, damaged)


def test_a_flipped_bit_in_a_stored_pixel_is_always_noticed(path):
    content = path.read_bytes()
    images, _ = make_arrays(make_card())
    start = content.index(images[0].tobytes())
    for bit in np.random.default_rng(1).integers(0, 8 * images[0].nbytes, 50):
        damaged = bytearray(content)
        damaged[start + bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(CondensedSetError):
            read_arrays(path)


def test_every_truncation_is_noticed(path):
    content = path.read_bytes()
    sizes = np.random.default_rng(0).integers(0, len(content), 40).tolist()
    for size in [0, 1, 4, 8, 12, len(content) - 1, *sizes]:
        path.write_bytes(content[:size])
        with pytest.raises(CondensedSetError):
            read_arrays(path)
        with pytest.raises(CondensedSetError):
            read_card(path)


def test_text_after_the_end_is_noticed(path):
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(CondensedSetError):
        read_arrays(path)


def test_swapped_rows_with_intact_pages_are_noticed(path):
    """Another writer's file: valid checksums and footer, but not the columns of the card."""
    file = pq.ParquetFile(path)
    sealed = file.metadata.metadata[b"idm_ray"]
    rewrite(path, file.read().take(pa.array([1, 0, 2, 3, 4, 5])), sealed)
    with pytest.raises(CondensedSetError, match="columns that match their SHA-256"):
        read_arrays(path)


def test_null_values_are_noticed(path):
    file = pq.ParquetFile(path)
    table = file.read()
    for name in table.column_names:
        index = table.column_names.index(name)
        values = [None, *table[name].to_pylist()[1:]]
        column = pa.array(values, table.schema.field(name).type)
        changed = table.set_column(index, table.schema.field(name), column)
        rewrite(path, changed, file.metadata.metadata[b"idm_ray"])
        with pytest.raises(CondensedSetError):
            read_arrays(path)


def test_a_card_that_promises_more_images_than_the_file_holds_allocates_nothing(path):
    card = make_card(image_shape=(3, 10_000, 10_000), ipc=10_000)
    rewrite(path, make_schema(card).empty_table(), seal(card, "ab"))
    with pytest.raises(CondensedSetError, match="30000 rows as in the card, found 0"):
        read_arrays(path)


def test_a_file_of_a_newer_format_names_the_version_to_install(path):
    file = pq.ParquetFile(path)
    card = json.loads(file.metadata.metadata[b"idm_ray"])
    newer = card | {"format_version": 2, "versions": {"idm_ray": "7.3.0"}}
    rewrite(path, file.read(), json.dumps(newer).encode())
    for read in (read_card, read_arrays):
        with pytest.raises(CondensedSetError, match=r"found format 2; install idm_ray 7\.3\.0"):
            read(path)


def rewrite(path, table, sealed):
    with open(path, "w+b") as file:
        with pq.ParquetWriter(file, table.schema, use_dictionary=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"idm_ray": sealed})
        seal_footer(file)


def test_a_folder_names_the_file_in_it(tmp_path):
    with pytest.raises(CondensedSetError, match=r"name the condensed\.parquet in it"):
        read_card(tmp_path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(
        CondensedSetError, match=r"cannot read .*\(No such file or directory\): check"
    ):
        read_card(tmp_path / "condensed.parquet")


def test_a_parquet_file_of_another_kind_is_refused(tmp_path):
    pq.write_table(pa.table({"image": [1]}), tmp_path / "other.parquet")
    with pytest.raises(CondensedSetError, match="another file or a damaged one"):
        read_card(tmp_path / "other.parquet")


def test_a_parquet_file_without_a_card_says_how_to_get_one(tmp_path):
    with open(tmp_path / "other.parquet", "w+b") as file:
        pq.write_table(pa.table({"image": [1]}), file)
        seal_footer(file)
    with pytest.raises(CondensedSetError, match="without a card; write one with idm-ray condense"):
        read_card(tmp_path / "other.parquet")


@pytest.mark.slow
def test_no_flipped_bit_at_all_ends_the_process_or_takes_much_memory(path):
    """In a process of its own, since Arrow can end the process on a damaged footer."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.results.test_damage import flip_every_bit\n"
        "flip_every_bit(Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=root)


def flip_every_bit(path: Path) -> None:
    content = path.read_bytes()
    assert_refused_or_harmless(path, content)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 400 * 2**20,) * 2)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        assert_refused_or_harmless(path, damaged)
