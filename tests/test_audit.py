"""The audit counts what was audited, and is no pass where nobody answers."""

import pytest

from tests.audit import closure, main

PACKAGES = {"one": "1.0", "two": "2.0"}
SOUND = {"one": [], "two": []}
HOLE = [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]


def test_what_runs_is_audited_extras_and_needs_of_needs_among_it_and_no_tool():
    names = closure()
    assert {"ray", "torch", "aiohttp", "tensorboardx", "mpmath"} <= names.keys()
    assert not {"idm-ray", "pytest", "ruff", "mypy", "bandit", "pip-audit", "moto"} & names.keys()
    assert not any("+" in version for version in names.values())


@pytest.mark.parametrize(
    ("answers", "status", "told"),
    [
        ({"pypi": (SOUND, "")}, 0, "audited 2 of 2 packages\n"),
        (
            {"pypi": ({}, "not found"), "osv": ({}, "no network")},
            3,
            "audited 0 of 2 packages\nskipped: pypi: not found; osv: no network\n",
        ),
        ({"pypi": ({"one": []}, "half"), "osv": ({"two": []}, "")}, 0, "audited 2 of 2 packages\n"),
        (
            {"pypi": ({"one": []}, "half"), "osv": ({}, "none")},
            3,
            "audited 1 of 2 packages\nskipped: pypi: half; osv: none\n",
        ),
        (
            {"pypi": ({"one": HOLE}, "half"), "osv": ({}, "none")},
            1,
            "one 1.0: PYSEC-1, mended in ['1.1']\naudited 1 of 2 packages\n",
        ),
    ],
)
def test_only_an_audit_of_all_packages_is_a_pass(answers, status, told, capsys):
    asked = []

    def ask(source, packages):
        asked.append(packages)
        return answers[source]

    assert main(PACKAGES, ask) == status
    assert capsys.readouterr().out == told
    assert not any("one" in packages for packages in asked[1:] if "one" in answers["pypi"][0])
