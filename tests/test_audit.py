"""The audit of dependencies says what it looked at, and never passes what nobody answered for."""

import json

import pytest

from tests.audit import CLEAN, FOUND, SKIPPED, closure, verdict


def answer(**packages):
    return json.dumps({"dependencies": [{"name": n, **of} for n, of in packages.items()]})


SOUND = {"version": "1", "vulns": []}
CONCERNED = {"version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"skip_reason": "not on the index"}


def test_what_the_project_runs_with_is_audited_and_no_tool_of_its_tests():
    found = closure("idm_ray")
    assert {"ray", "torch", "click", "aiohttp", "pandas"} <= found.keys()  # the last two by extras
    assert found.keys().isdisjoint({"pytest", "mypy", "bandit", "idm-ray", "idm_ray"})


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (answer(a=SOUND, b=SOUND), CLEAN, "2 of 2 packages were audited"),
        (answer(a=SOUND, b=CONCERNED), FOUND, "b 2: CVE-1, CVE-2"),
        (answer(a=SOUND, b=UNKNOWN), CLEAN, "b: not audited: not on the index"),
        (
            answer(a=UNKNOWN, b=UNKNOWN),
            SKIPPED,
            "skipped: none of 2 packages was audited: not on the index",
        ),
        ("", SKIPPED, "skipped: none of 2 packages was audited: cannot connect"),
        ("Traceback", SKIPPED, "skipped: none of 2"),
        ("[]", SKIPPED, "skipped: none of 2"),
    ],
)
def test_only_an_answer_without_advisories_passes(said, status, text):
    found, told = verdict(said, "a warning\ncannot connect\n", 2)
    assert found == status
    assert text in told
