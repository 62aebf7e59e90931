import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from idm_ray.algorithm.state import GroupState, ModelVersion, QueueState
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checkpoints.names import is_own
from idm_ray.storage import Location
from tests.checkpoints.making import (
    bits,
    make_run,
    names_in,
    names_of,
    publish_run,
    read_run,
    write_run,
)
from tests.sending import sent


@pytest.fixture
def local(tmp_path):
    """A folder that does not exist yet."""
    return CheckpointFolder(Location.at(tmp_path / "run" / "checkpoints"))


@pytest.fixture(params=["local", "s3"])
def folder(request, local):
    """A folder that does not exist yet, on disk and in a bucket: all else is the same."""
    if request.param == "local":
        return local
    bucket = Location.at(request.getfixturevalue("store").bucket)
    return CheckpointFolder(bucket / "run" / "checkpoints")


# --- Writing and reading ---


def test_a_run_is_read_to_the_bit_as_it_was_written(folder):
    commit = publish_run(folder, 1)
    assert folder.commits() == [commit]
    assert bits(read_run(folder, commit)) == bits(make_run(1))
    assert names_in(folder) == names_of(commit)


def test_a_run_with_fresh_networks_has_groups_only(local):
    run = dataclasses.replace(
        make_run(), queue=QueueState(iteration=10, next_id=4, models=()), versions={}, pretrained=()
    )
    commit = write_run(local, run, 1)
    local.publish(commit)
    assert local.commits() == [commit]
    assert bits(read_run(local, commit)) == bits(run)
    assert names_in(local) == {
        "commit-00000001.json",
        "group-0000-00000010.safetensors",
        "group-0001-00000011.safetensors",
    }


def test_arrays_are_kept_whatever_their_order_in_memory(local):
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 1, 2)
    images, velocity = np.asfortranarray(plain), plain.copy()
    velocity.flags.writeable = False
    strided = np.arange(48, dtype=np.float32).reshape(2, 3, 2, 1, 4)[..., ::2]
    big_endian = plain.astype(">f4")
    state = GroupState(
        iteration=1, images=images, velocity=velocity, copies={0: strided, 1: big_endian}
    )
    found = local.read_group(local.write_groups({0: state})[0])
    for kept in (found.images, found.velocity, found.copies[1]):
        np.testing.assert_array_equal(kept, plain)
    np.testing.assert_array_equal(found.copies[0], strided)


def test_what_was_read_may_be_written_to(local):
    state = local.read_group(local.write_groups(make_run().groups)[0])
    state.images[:] = 1
    assert state.images.flags.aligned


def test_arrays_that_could_not_be_read_are_not_written(local):
    wrong = ModelVersion(weights=np.zeros(3), velocity=np.zeros(3))
    with pytest.raises(TypeError, match="float64"):
        local.write_models({(0, 0): wrong})
    assert names_in(local) == set()


def test_a_file_may_be_written_again(local):
    commit = publish_run(local, 1)
    assert write_run(local, make_run(1), 1) == commit
    assert local.publish(commit) == ""
    assert bits(read_run(local, commit)) == bits(make_run(1))


def test_a_folder_can_be_sent_to_another_process(local):
    commit = publish_run(local, 1)
    assert bits(read_run(sent(local), sent(commit))) == bits(make_run(1))


def test_writing_needs_neither_torch_nor_ray():
    code = "import sys, idm_ray.checkpoints.folder; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- What stays ---


def test_two_commits_stay_and_only_what_they_list(folder):
    commits = [publish_run(folder, number) for number in (1, 2, 3, 4)]
    assert folder.commits() == [commits[3], commits[2]]
    assert names_in(folder) == names_of(*commits[2:])
    for commit in commits[2:]:
        assert bits(read_run(folder, commit)) == bits(make_run(commit.number))


def test_a_commit_may_list_files_of_the_one_before(local):
    first = publish_run(local, 1)
    run = dataclasses.replace(make_run(2), queue=make_run(1).queue)
    second = dataclasses.replace(
        write_run(local, dataclasses.replace(run, versions=make_run(1).versions), 2),
        models=first.models,
    )
    local.publish(second)
    third = dataclasses.replace(write_run(local, make_run(3), 3), pretrained=second.pretrained)
    local.publish(third)
    assert names_in(local) == names_of(second, third)
    assert bits(read_run(local, second).versions) == bits(make_run(1).versions)


def test_files_of_others_are_left_alone(folder):
    others = {
        "notes.txt",
        "commit-7.json",
        "commit-000000007.json",
        "commit-00000007.json.bak",
        "group-0000-00000010.safetensors.part",
        "model-1-1.safetensors",
        "weights.safetensors",
        "more/group-0000-00000010.safetensors",
    }
    for name in others:
        (folder.place / name).write_text("mine")
    commits = [publish_run(folder, number) for number in (1, 2, 3)]
    assert names_in(folder) == others | names_of(*commits[1:])
    folder.remove()
    assert names_in(folder) == others


def test_a_number_has_one_spelling():
    assert is_own("commit-00000007.json")
    assert is_own("commit-123456789.json")
    assert is_own("group-12345-00000007.safetensors")
    assert not is_own("commit-0123456789.json")
    assert not is_own("group-01234-00000007.safetensors")
    assert not is_own("commit-0000000\u0667.json")
    assert not is_own("commit-00000007.json\n")


def test_a_damaged_commit_is_none_of_the_two(local):
    first, _ = publish_run(local, 1), publish_run(local, 2)
    (local.place / "commit-00000002.json").write_text("{}")
    third = publish_run(local, 3)
    assert local.commits() == [third, first]
    assert names_in(local) == names_of(first, third)
    assert bits(read_run(local, first)) == bits(make_run(1))


def test_going_back_removes_what_came_after(folder):
    first, _ = publish_run(folder, 1), publish_run(folder, 2)
    (folder.place / "commit-00000009.json").write_text("{}")
    folder.return_to(first)
    assert folder.commits() == [first]
    assert names_in(folder) == names_of(first)
    assert bits(read_run(folder, first)) == bits(make_run(1))
    second = publish_run(folder, 2)
    assert folder.commits() == [second, first]


def test_going_back_to_the_newest_removes_what_was_never_published(local):
    commits = [publish_run(local, number) for number in (1, 2)]
    write_run(local, make_run(3), 3)
    local.return_to(commits[1])
    assert names_in(local) == names_of(*commits)


def test_a_published_commit_is_the_newest(local):
    first, _ = publish_run(local, 1), publish_run(local, 5)
    second = publish_run(local, 2)
    assert local.commits() == [second, first]


def test_old_files_that_cannot_be_removed_are_told_and_the_commit_stands(local):
    publish_run(local, 1)
    in_the_way = local.place.local / ".commit-00000001.json.0123abcd.tmp"
    in_the_way.mkdir()
    commit = write_run(local, make_run(2), 2)
    obstacle = local.publish(commit)
    assert str(in_the_way) in obstacle
    assert "\n" not in obstacle
    assert local.commits()[0] == commit


def test_nothing_is_left_when_all_is_removed(folder):
    publish_run(folder, 1)
    publish_run(folder, 2)
    folder.remove()
    assert names_in(folder) == set()
    assert folder.commits() == []
    assert folder.place.local is None or not folder.place.exists()


def test_a_folder_that_is_not_there_has_no_commits(folder):
    assert folder.commits() == []
    folder.remove()
    assert not folder.place.exists()
