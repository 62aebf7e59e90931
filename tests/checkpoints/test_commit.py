import dataclasses
import hashlib
import json
import pickle

import pytest

from idm_ray.algorithm.state import ModelState, QueueState
from idm_ray.checkpoints.commit import Commit, StoredFile, StoredGroup
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import CheckpointError
from idm_ray.storage import Location
from tests.checkpoints.making import make_run, write_run


@pytest.fixture
def commit(tmp_path):
    return write_run(CheckpointFolder(Location.at(tmp_path)), make_run(), 7)


def forged(commit, change=lambda content: None):
    """A commit that somebody has changed and given a checksum that fits."""
    content = json.loads(commit.to_json())
    del content["sha256"]
    change(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    return (json.dumps(content, indent=1) + "\n").encode()


def refusal(text):
    with pytest.raises(CheckpointError) as caught:
        Commit.from_json(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


# --- What is written ---


def test_a_commit_is_read_as_it_was_written(commit):
    found = Commit.from_json(commit.to_json().encode())
    assert found == commit
    assert (found.seconds, found.totals["training"]) == (1e9 / 3, 5e-324)
    assert Commit.from_json(forged(commit)) == commit


def test_a_result_says_what_it_was_tested_on_where_that_is_something_else(commit):
    before = commit.evaluated
    more = dataclasses.replace(before[0], split="validation")
    selecting = dataclasses.replace(commit, evaluated=(*before, more))
    text = selecting.to_json().encode()
    assert Commit.from_json(text) == selecting
    splits = [result.get("split") for result in json.loads(text)["evaluated"]]
    assert splits == [None] * len(before) + ["validation"]
    # Without selecting it is what earlier versions wrote.
    assert "split" not in commit.to_json()


def test_a_default_that_is_written_all_the_same_is_damage(commit):
    def write(content):
        content["evaluated"][0]["split"] = "eval_split"

    assert "it does not match its SHA-256" in refusal(forged(commit, write))


def test_a_commit_knows_what_it_consists_of(commit):
    assert commit.iteration == 10
    assert [file.name for file in commit.files] == [
        "group-0000-00000010.safetensors",
        "group-0001-00000011.safetensors",
        "model-00000001-00000011.safetensors",
        "model-00000003-00000013.safetensors",
        "pretrained-0000.safetensors",
    ]
    assert commit.versions == {(1, 11): commit.models[0], (3, 13): commit.models[1]}
    assert commit.size == sum(file.size for file in commit.files) > 1000


def test_its_text_can_be_read_by_people(commit):
    lines = commit.to_json().splitlines()
    assert lines[:3] == ["{", ' "format": 1,', ' "number": 7,']
    assert ' "seconds": 333333333.3333333,' in lines


def test_seconds_that_are_whole_are_read_again(commit):
    empty = dataclasses.replace(commit, seconds=sum([]), totals={"matching": 2})
    assert Commit.from_json(empty.to_json().encode()) == empty


def test_nothing_is_written_that_could_not_be_read(commit):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(commit, seconds=float("nan")).to_json()


def test_a_large_commit_is_small(commit):
    stored = commit.models[0]
    groups = tuple(
        StoredGroup(
            iteration=20_000,
            file=dataclasses.replace(stored, name=f"group-{group:04d}-00020000.safetensors"),
        )
        for group in range(1000)
    )
    states = tuple(ModelState(model=m, age=10_000, correct=1, seen=1) for m in range(100))
    models = tuple(
        dataclasses.replace(stored, name=f"model-{model:08d}-00010000.safetensors")
        for model in range(100)
    )
    queue = QueueState(iteration=20_000, next_id=100, models=states)
    large = dataclasses.replace(commit, groups=groups, queue=queue, models=models)
    text = large.to_json().encode()
    assert len(text) < 1_000_000
    assert Commit.from_json(text) == large


# --- What is refused, although its checksum fits ---


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "the commit.number is True, expected a whole number"),
        ("7", "the commit.number is '7', expected a whole number"),
        (7.0, "the commit.number is 7.0, expected a whole number"),
        (None, "the commit.number is None, expected a whole number"),
        (-1, "the commit.number is -1, expected a number from 0"),
        (2**63, "the commit.number is 9223372036854775808, expected a number from 0"),
        (10**4000, "expected a number from 0"),
        ([[[7]]], "expected a whole number"),
    ],
)
def test_a_number_of_another_kind_is_refused(commit, value, said):
    assert said in refusal(forged(commit, lambda content: content.update(number=value)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "the commit.seconds is nan, expected a number from 0"),
        (float("inf"), "the commit.seconds is inf, expected a number from 0"),
        (-0.5, "the commit.seconds is -0.5, expected a number from 0"),
        (3, "the commit.seconds is 3, expected a number with a point"),
    ],
)
def test_seconds_that_nobody_measured_are_refused(commit, value, said):
    assert said in refusal(forged(commit, lambda content: content.update(seconds=value)))


def test_a_number_too_large_for_a_float_is_refused(commit):
    text = forged(commit).replace(b"333333333.3333333", b"1e400")
    assert "the commit.seconds is inf" in refusal(text)


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "",
        "sub/group-0000-00000010.safetensors",
        "group-0001-00000010.safetensors",
        "group-0000-0000000010.safetensors",
        "group-0000-00000010.safetensors\n",
        "group-0000-0000001\u0660.safetensors",
        "\ud800",
        "x" * 10_000,
    ],
)
def test_a_file_that_is_not_called_by_its_numbers_is_refused(commit, name):
    def rename(content):
        content["groups"][0]["file"]["name"] = name

    assert "expected a file group-0000-00000010.safetensors, found" in refusal(
        forged(commit, rename)
    )


def test_two_files_of_one_name_are_refused(commit):
    def repeat(content):
        content["models"][1] = content["models"][0]

    assert "expected a file model-00000003-00000013" in refusal(forged(commit, repeat))


@pytest.mark.parametrize("digest", ["", "ab", "A" * 64, "g" * 64, "a" * 65, "a" * 63 + "\n"])
def test_what_is_no_checksum_is_refused(commit, digest):
    def replace(content):
        content["pretrained"][0]["sha256"] = digest

    assert "expected the SHA-256 of pretrained-0000.safetensors, found" in refusal(
        forged(commit, replace)
    )


def update(*path, **values):
    """Changes something deep inside."""

    def change(content):
        for step in path:
            content = content[step]
        content.update(values)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("totals"), "the commit has other fields than number, groups"),
        (update(more=1), "the commit has other fields than number, groups"),
        (update("groups", 0, more=1), "the commit.groups[0] has other fields than iteration, file"),
        (update("groups", 0, file=[]), "the commit.groups[0].file is [], expected an object"),
        (update(groups={}), "the commit.groups is {}, expected a list"),
        (update(groups=[]), "expected a group, and the files of 2 models, found 0 and 2"),
        (update(models=[]), "expected a group, and the files of 2 models, found 2 and 0"),
        (update(totals=[]), "the commit.totals is [], expected an object"),
        (update(totals={"a\nb": "x"}), r"the commit.totals['a\nb'] is 'x', expected a number with"),
        (update(totals={"x": -1.0}), "the commit.totals['x'] is -1.0, expected a number from 0"),
        (update("queue", iteration=11), "expected the queue at iteration 10 or before, found 11"),
        (update("queue", next_id=3), "expected ids that rise to 3, found [1, 3]"),
        (update("queue", "models", 0, correct=6), "more images that a model got right"),
        (update("evaluated", 0, accuracy=1.5), "expected accuracies up to 1"),
        (update("evaluated", 0, subject=1), "evaluated[0].subject is 1, expected a text"),
    ],
)
def test_what_cannot_be_is_refused(commit, change, said):
    assert said in refusal(forged(commit, change))


def test_a_newer_format_is_named_whatever_else_it_holds():
    said = refusal(b'{"format": 2, "all": "new"}')
    assert said == (
        "expected a commit of format 1, found format 2, which a newer idm_ray wrote; install "
        "that one"
    )
    assert "found format 1000" in refusal(b'{"format": 1' + b"0" * 4000 + b"}")


@pytest.mark.parametrize("found", ["true", '"1"', "0", "-1", "1.0", "null", "[1]"])
def test_a_format_that_never_was_is_damage(found):
    assert "it names no format" in refusal(b'{"format": ' + found.encode() + b"}")


# --- What is refused since it is no commit, or no longer the one that was written ---


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"commit"',
        b"{}",
        b"\x00" * 100,
        b"\xff\xfe" + "{}".encode("utf-16-le"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": ' + b"9" * 100_000 + b"}",
        pickle.dumps({"format": 1}),
    ],
    ids=range(12),
)
def test_garbage_is_refused(text):
    assert refusal(text).startswith("expected a commit, found a damaged one (")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"number": 7', b'"number": 8'),
        (b'"accuracy": 0.30000000000000004', b'"accuracy": 0.3'),
        (b'"training": 5e-324', b'"training": 5E-324'),
        (b'"number": 7', b'"number":  7'),
        (b'"number": 7', b'"number": 7, "number": 7'),
        (b'"number": 7', b'"number": 6, "number": 7'),
        (b'"subject"', b'"\\u0073ubject"'),
        (b"}\n", b"}"),
        (b"}\n", b"}\n\n"),
    ],
)
def test_a_text_that_was_changed_is_refused_even_where_it_means_the_same(commit, old, new):
    text = commit.to_json().encode()
    changed = new.join(text.rsplit(old, 1))
    assert changed != text
    assert "it does not match its SHA-256" in refusal(changed)


def test_whoever_makes_a_commit_that_cannot_be_is_told(commit):
    stray = StoredFile(name="../stray", size=0, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"expected a file pretrained-0000.safetensors, found"):
        dataclasses.replace(commit, pretrained=(stray,))
    with pytest.raises(ValueError, match="expected a group"):
        dataclasses.replace(commit, groups=())
