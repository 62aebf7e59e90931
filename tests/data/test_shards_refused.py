"""Sets of shards that are incomplete, changed, or made to do harm: one line, never a traceback."""

import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idm_ray.data.manifest import Manifest
from idm_ray.errors import DataError
from tests.data.making import images_of, opened, write_sharded, write_tree
from tests.making_runs import command


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp("source") / "insects", train=5)
    return write_sharded(root, root.parent / "shards", shard_mb=0.005)


@pytest.fixture
def shards(written, tmp_path):
    return shutil.copytree(written, tmp_path / "shards")


def refusal(shards, *, reading=False, **options):
    with pytest.raises(DataError) as raised:
        data = opened(shards, shards.parent / "cache", **options)
        if reading:
            images_of(data.train)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def change_manifest(folder, /, *, seal, **values):
    """Write other values into the manifest, with a fitting checksum or without."""
    file = folder / "manifest.json"
    content = json.loads(file.read_text()) | values
    if seal:
        del content["sha256"]
        text = json.dumps(content, sort_keys=True)
        content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(content))


def change_index(shards, column, value):
    """Put a value into a column of the first image's row, and have the manifest fit."""
    file = shards / "index.parquet"
    opened_file = pq.ParquetFile(file)
    tables = [opened_file.read_row_group(n) for n in range(opened_file.metadata.num_row_groups)]
    number = tables[0].schema.get_field_index(column)
    values = [value, *tables[0].column(number).to_pylist()[1:]]
    changed = pa.array(values, tables[0].schema.field(number).type)
    tables[0] = tables[0].set_column(number, tables[0].schema.field(number), changed)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    file.write_bytes(buffer.getvalue())
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    index = {"path": "index.parquet", "size": len(buffer.getvalue()), "sha256": sha256}
    change_manifest(shards, seal=True, index=index)


def first_shard(shards):
    return sorted((shards / "train").iterdir())[0]


# --- Shards ---


def test_a_shard_that_is_missing_is_named(shards):
    path = first_shard(shards)
    path.unlink()
    told = refusal(shards)
    assert told.startswith(f"expected {path} as the manifest says, found no such file: copy")


@pytest.mark.parametrize("change", [-1, -512, -5000, 512])
def test_a_shard_of_another_size_is_refused(shards, change):
    path = first_shard(shards)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + change)
    told = refusal(shards)
    assert told.startswith(f"expected {size} bytes in {path} as the manifest says, found")
    assert "copy it again" in told


def test_a_tar_that_the_manifest_does_not_list_is_refused(shards):
    shutil.copy(first_shard(shards), shards / "train" / "0009-more-000.tar")
    told = refusal(shards)
    assert "found 'train/0009-more-000.tar': move them elsewhere" in told


def test_other_files_do_not_matter(shards):
    (shards / "train" / "notes.txt").write_text("of the user")
    (shards / "train" / ".hidden.tar").write_text("")
    assert opened(shards, shards.parent / "cache").info.num_classes == 2


def test_other_bytes_of_the_same_size_are_refused_when_they_are_read(shards):
    path = first_shard(shards)
    content = bytearray(path.read_bytes())
    content[content.index(b"\x89PNG") + 50] ^= 1
    path.write_bytes(content)
    told = refusal(shards, reading=True)
    assert f"expected {path} as it was when it was indexed, found other bytes at" in told


def test_a_shard_that_goes_away_while_it_is_used_is_refused(shards):
    data = opened(shards, None, cache="none")
    first_shard(shards).unlink()
    with pytest.raises(DataError, match=r"cannot read .*\.tar \(No such file"):
        images_of(data.train)


# --- Manifest and index ---


def test_a_damaged_manifest_is_refused(shards):
    file = shards / "manifest.json"
    whole = file.read_bytes()
    for content in (b"", b"[]", b"7", b"\xff\xfe", whole[: len(whole) // 2], b'{"format": 1}'):
        file.write_bytes(content)
        assert "manifest" in refusal(shards)


def test_every_changed_byte_of_a_manifest_is_noticed(shards):
    file = shards / "manifest.json"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).choice(len(whole), 60, replace=False):
        content = bytearray(whole)
        if chr(content[place]) in " \n":  # the only ones that say nothing
            continue
        content[place] ^= 1
        file.write_bytes(content)
        assert "write" in refusal(shards)


def test_an_edited_manifest_is_refused(shards):
    change_manifest(shards, seal=False, name="mine")
    told = refusal(shards)
    assert f"found {shards}/manifest.json damaged (its checksum differs)" in told


def test_a_manifest_of_another_version_is_refused(shards):
    change_manifest(shards, seal=True, format="idm_ray shards 2")
    told = refusal(shards)
    assert told.startswith("expected shards of format 'idm_ray shards 1' in ")
    assert "found 'idm_ray shards 2': write them again" in told


@pytest.mark.parametrize(
    "values", [{"train": []}, {"test": 7}, {"shards": [{"path": 1}]}, {"unknown": 1}]
)
def test_a_manifest_whose_parts_do_not_fit_is_refused(shards, values):
    change_manifest(shards, seal=True, **values)
    assert "damaged" in refusal(shards)


@pytest.mark.parametrize("path", ["../../secret.tar", "/etc/secret.tar"])
def test_a_manifest_cannot_lead_out_of_its_folder(shards, path):
    (shards.parent.parent / "secret.tar").write_bytes(bytes(10240))
    manifest = json.loads((shards / "manifest.json").read_text())
    record = {**manifest["shards"][0], "path": path}
    change_manifest(shards, seal=True, shards=[record, *manifest["shards"][1:]])
    assert f"expected a path inside {shards}, got {path!r}" in refusal(shards)


def test_the_index_of_another_manifest_is_refused(shards, written, tmp_path):
    other = write_sharded(written, tmp_path / "other")
    shutil.copy(other / "index.parquet", shards / "index.parquet")
    told = refusal(shards, reading=True)
    assert "index.parquet to be the index of the manifest beside it, found another" in told


def test_a_missing_index_is_refused(shards):
    (shards / "index.parquet").unlink()
    assert "index.parquet (No such file" in refusal(shards, reading=True)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", 99),
        ("shard", -1),
        ("offset", -1),
        ("offset", 2**62),
        ("length", 0),
        ("length", 2**62),
    ],
)
def test_an_index_that_leads_out_of_its_shards_is_refused(shards, column, value):
    change_index(shards, column, value)
    assert "to lead into the shards of its manifest" in refusal(shards, reading=True)


def test_an_index_with_other_counts_or_columns_is_refused(shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    fewer = {**manifest["train"][0], "images": 4, "pixels": 4 * 8 * 8}
    change_manifest(shards, seal=True, train=[fewer, manifest["train"][1]])
    assert "to fit its manifest, found other counts" in refusal(shards, reading=True)
    pq.write_table(pa.table({"x": [1]}), shards / "index.parquet")
    sha256 = hashlib.sha256((shards / "index.parquet").read_bytes()).hexdigest()
    change_manifest(shards, seal=True, index={**manifest["index"], "sha256": sha256})
    assert "expected the columns" in refusal(shards, reading=True)
    (shards / "index.parquet").write_bytes(b"no parquet")
    sha256 = hashlib.sha256(b"no parquet").hexdigest()
    change_manifest(shards, seal=True, index={**manifest["index"], "sha256": sha256})
    assert "index.parquet damaged: copy it again" in refusal(shards, reading=True)


def test_a_manifest_says_the_same_after_json(written):
    text = (written / "manifest.json").read_text()
    manifest = Manifest.from_json(text, "here")
    assert manifest.to_json() == text
    assert dataclasses.replace(manifest, name="x").to_json() != text


# --- Options ---


def test_a_class_that_the_shards_lack_is_refused_with_the_nearest(shards):
    told = refusal(shards, classes="ant,beee")
    assert "classes of insects, found 'beee': did you mean 'bee'?" in told


def test_one_class_alone_is_refused(shards):
    assert "expected two or more classes, found 1 (ant)" in refusal(shards, classes="ant")


@pytest.mark.parametrize("folder", ["nothing", "there"])
def test_a_uri_without_a_manifest_is_refused_with_the_remedy(tmp_path, folder):
    (tmp_path / "there").mkdir()
    told = command("shards", f"file://{tmp_path}/{folder}", "--out", tmp_path / "x", "--local")
    assert told.status == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["condense", "--classes", "wasp,ant"], "expected with --classes a file or classes of"),
        (["condense", "--cache-limit", "much"], "cache_limit"),
        (["evaluate", "none.parquet"], "none.parquet"),
        (["shards", "--out", "out", "--shard-mb", "0"], "shard_mb"),
        (["shards", "--out", "out", "--classes", "anta,bee"], "did you mean 'ant'?"),
    ],
)
def test_on_the_command_line_a_user_s_mistake_is_one_line_and_status_2(
    shards, words, message, monkeypatch
):
    monkeypatch.chdir(shards.parent)
    where = [str(shards)] if words[0] == "shards" else ["--data", str(shards)]
    told = command(words[0], *where, *words[1:], "--local")
    assert told.status == 2
    assert message in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not (shards.parent / "out").exists()


def test_on_the_command_line_a_shard_that_changed_is_one_line_and_status_2(shards):
    path = first_shard(shards)
    path.write_bytes(path.read_bytes()[:-1])
    told = command("condense", "--data", shards, "--local")
    assert told.status == 2
    assert f"bytes in {path} as the manifest says" in told.err
    assert len(told.err.strip().splitlines()) == 1
