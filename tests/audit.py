"""`make audit`: asks whether known advisories concern the packages that the project runs with.

It ends with 0 if none does, with 1 if one does, and with 3 if nobody could be asked: that is no
pass. How many packages were looked at is said in each case.
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CLEAN, FOUND, SKIPPED = 0, 1, 3
# pip-audit asks one of these.
SERVICES = ("pypi", "osv")


def closure(root: str) -> dict[str, str]:
    """Versions of the installed packages that one needs to run, directly or not, by name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(root, frozenset[str]())]
    while left:
        name, extras = left.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system, or optional
        if name != root:
            found[name] = package.version
        left += _needs(package, extras)
    return dict(sorted(found.items()))


def _needs(
    package: importlib.metadata.Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    for text in package.requires or ():
        need = Requirement(text)
        if need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        ):
            yield canonicalize_name(need.name), frozenset(need.extras)


def verdict(answer: str, complaint: str, asked: int) -> tuple[int, str]:
    """What an answer of pip-audit means: an exit status, and a text.

    Args:
        answer: its JSON; something else if it could not ask.
        complaint: what it wrote to standard error.
        asked: number of packages.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (complaint.strip().splitlines() or ["no answer"])[-1]
        return SKIPPED, f"skipped: none of {asked} packages was audited: {reason}"
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        reason = packages[0]["skip_reason"] if packages else "no answer"
        return SKIPPED, f"skipped: none of {asked} packages was audited: {reason}"
    lines = [f"{len(audited)} of {asked} packages were audited"]
    lines += [f"{p['name']}: not audited: {p['skip_reason']}" for p in packages if p not in audited]
    concerned = [package for package in audited if package["vulns"]]
    for package in concerned:
        names = ", ".join(vulnerability["id"] for vulnerability in package["vulns"])
        lines.append(f"{package['name']} {package['version']}: {names}")
    return (FOUND if concerned else CLEAN), "\n".join(lines)


def main() -> int:
    """Audit what is installed; returns the exit status."""
    packages = closure("idm_ray")
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "requirements.txt")
        listed.write_text("".join(f"{name}=={v}\n" for name, v in packages.items()))
        words = ["--requirement", str(listed), "--no-deps", "--disable-pip", "--format", "json"]
        for service in SERVICES:
            done = subprocess.run(
                [sys.executable, "-m", "pip_audit", *words, "--vulnerability-service", service],
                capture_output=True,
                text=True,
                check=False,
            )
            status, text = verdict(done.stdout, done.stderr, len(packages))
            print(f"{service}: {text}")
            if status != SKIPPED:
                break
    return status


if __name__ == "__main__":
    sys.exit(main())
