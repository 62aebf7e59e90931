import pytest
import yaml

from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.report import provenance
from idm_ray.results.run_config import FORMAT, parse_config
from tests.making_runs import plan_of

WRITTEN = {"format": FORMAT, "options": RunConfig(recipe="x").flat(), "data": {"fingerprint": "0"}}


def parse(**changes):
    content = {name: value for name, value in {**WRITTEN, **changes}.items() if value is not None}
    return parse_config(yaml.safe_dump(content).encode(), "run/config.yaml")


def refusal(content):
    with pytest.raises(UserError) as raised:
        parse_config(content, "run/config.yaml")
    message = str(raised.value)
    assert "\n" not in message
    assert "run/config.yaml" in message
    return message


def refusal_of(**changes):
    return refusal(yaml.safe_dump({**WRITTEN, **changes}).encode())


def test_what_a_run_writes_comes_back():
    written = provenance(plan_of()[0], ["a processor"])
    assert parse_config(yaml.safe_dump(written).encode(), "") == written


def test_a_run_without_a_format_is_one_of_the_first():
    assert "format" not in parse(format=None)


def test_options_that_a_version_did_not_have_are_at_their_defaults():
    found = parse(options={"ipc": 3})["options"]
    assert found == RunConfig.from_flat({"ipc": 3}).flat()


def test_a_newer_format_is_refused():
    assert refusal_of(format=FORMAT + 1) == (
        f"expected a run of format {FORMAT} or older in run/config.yaml, found format "
        f"{FORMAT + 1}: use a newer idm_ray, as the one that began it"
    )


@pytest.mark.parametrize(
    "content",
    [b"a: [1", b"a: b: c", b"\x00", b"\xff\xfe\xfa", b"- a\nb", b"a: 2020-13-45", b"[" * 100_000],
    ids=range(7),
)
def test_what_is_no_yaml_is_refused(content):
    message = refusal(content)
    assert message.startswith("expected the YAML of a run in run/config.yaml: ")
    assert message.endswith("; restore the file as the run wrote it, or begin a new run")


@pytest.mark.parametrize("content", [b"", b"ipc", b"- ipc", b"3"])
def test_what_is_no_mapping_is_refused(content):
    assert refusal(content).startswith("expected a mapping in run/config.yaml, found ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "new"}, "a whole number as format"),
        ({"options": None}, "options as 'name: value' lines"),
        ({"options": ["ipc"]}, "options as 'name: value' lines"),
        ({"options": {1: 2}}, "options as 'name: value' lines"),
        ({"data": None}, "data with a fingerprint"),
        ({"data": {"name": "digits"}}, "data with a fingerprint"),
        ({"data": {"fingerprint": 3}}, "data with a fingerprint"),
    ],
)
def test_a_part_of_another_kind_is_refused(changes, expected):
    (value,) = changes.values()
    assert refusal_of(**changes) == (
        f"expected {expected} in run/config.yaml, found {value!r}; restore the file as the run "
        "wrote it, or begin a new run"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"itreations": 3}, "unknown option 'itreations'; did you mean 'iterations'?"),
        ({"ipc": "ten"}, "ipc must be a whole number, got 'ten'"),
        ({"ipc": 0}, "ipc must be at least 1, got 0"),
    ],
)
def test_options_that_no_run_has_are_refused(options, reason):
    assert refusal_of(options=options) == (
        f"expected the options of a run in run/config.yaml: {reason}; restore the file as the run "
        "wrote it, or begin a new run"
    )
