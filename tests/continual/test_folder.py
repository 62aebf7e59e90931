"""The folder of a course: one of its own, and never one of other settings."""

import pytest

from idm_ray.continual.accuracies import FILE
from idm_ray.continual.folder import REQUEST, RESULTS, CourseFolder, kept_options
from idm_ray.errors import UserError
from idm_ray.storage import Location

ASKED = {
    "steps": 5,
    "data": {"name": "digits", "source": "digits", "fingerprint": "0f"},
    "methods": {"dm": {"iterations": 10, "lr_img": 1.0}, "idm": {"iterations": 10, "lr_img": 0.2}},
}


def begin(place, request=ASKED, *, overwrite=False):
    with CourseFolder(Location.at(place)) as folder:
        return folder.begin(request, overwrite=overwrite)


def refusal(place, request=ASKED, *, overwrite=False):
    with pytest.raises(UserError) as refused:
        begin(place, request, overwrite=overwrite)
    return str(refused.value)


def test_the_same_goes_on_and_leaves_no_lock_behind(tmp_path):
    assert not begin(tmp_path / "a" / "b")
    assert begin(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [REQUEST]


def test_other_settings_are_refused_with_each_difference_once(tmp_path):
    begin(tmp_path)
    methods = {name: options | {"iterations": 20} for name, options in ASKED["methods"].items()}
    told = refusal(tmp_path, ASKED | {"steps": 2, "methods": methods})
    assert told == (
        f"the folder {tmp_path} was begun with other settings: steps 5 there, 2 now; iterations 10 "
        "there, 20 now; ask for the same, or choose another --out"
    )
    told = refusal(tmp_path, ASKED | {"data": ASKED["data"] | {"fingerprint": "1e"}})
    assert "other images of digits there" in told


def test_methods_can_be_added_and_those_before_are_remembered(tmp_path):
    dm, idm = ({name: ASKED["methods"][name]} for name in ("dm", "idm"))
    begin(tmp_path, ASKED | {"methods": dm})
    assert begin(tmp_path, ASKED | {"methods": idm})
    changed = ASKED | {"methods": {"dm": {"iterations": 10, "lr_img": 0.5}}}
    assert "lr_img 1.0 there, 0.5 now" in refusal(tmp_path, changed)


def test_another_process_is_kept_away(tmp_path):
    with CourseFolder(Location.at(tmp_path)) as folder:
        folder.begin(ASKED, overwrite=False)
        assert f"another process is writing to {tmp_path}" in refusal(tmp_path)
    assert begin(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "found"), [("config.yaml", "a run"), ("notes.txt", "other files")]
)
def test_a_folder_of_something_else_is_left_alone(tmp_path, name, found, overwrite):
    (tmp_path / name).write_text("mine")
    told = refusal(tmp_path, overwrite=overwrite)
    assert told == (
        f"expected a new folder, or one of continual learning, found {found} at {tmp_path}; "
        "choose another --out"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "found a file at" in refusal(tmp_path / name, overwrite=overwrite)
    assert "expected a folder to write to" in refusal(tmp_path / name / "below")


def test_overwriting_removes_what_a_course_wrote_and_nothing_else(tmp_path):
    begin(tmp_path)
    for name in (*RESULTS, FILE, "mine.txt", "memories/order0/step1-dm/condensed.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert not begin(tmp_path, ASKED | {"steps": 2}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [REQUEST, "mine.txt"]
    assert "steps 2 there, 5 now" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"steps: 5", b"[", b"\xff", b""])
def test_a_request_that_was_broken_is_refused_with_the_remedy(tmp_path, content):
    begin(tmp_path)
    (tmp_path / REQUEST).write_bytes(content)
    assert f"in {tmp_path / REQUEST}, found something else; restore the file" in refusal(tmp_path)


def test_where_and_how_often_something_is_computed_may_change():
    options = {"data": "x", "local": True, "repeats": 3, "seed": 1, "iterations": 5}
    assert kept_options(options) == {"iterations": 5}
