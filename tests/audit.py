"""Asks for known vulnerabilities of all that the project needs to run; `make audit` runs it.

Exit status: 0 if every package was audited and none is known to be vulnerable, 1 if one is, 3 if
one could not be audited, as no source of advisories told of it. (`make` itself then exits with 2.)
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

SOURCES = ("pypi", "osv")

Asked = tuple[Mapping[str, list[dict[str, Any]]], str]
"""Vulnerabilities of each package that was audited, and why others were not."""


def closure(root: str = "idm_ray") -> dict[str, str]:
    """Versions of all installed packages that a package needs to run, without its own."""
    versions: dict[str, str] = {}
    seen, left = set(), [Requirement(root)]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found = metadata.distribution(name)
            # Advisories are about public versions: 2.14.1, not 2.14.1+cpu.
            versions[name] = Version(found.version).public
            needs = map(Requirement, found.requires or ())
            left += [
                need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})
            ]
    del versions[canonicalize_name(root)]
    return versions


def ask(source: str, packages: Mapping[str, str]) -> Asked:
    """Have pip-audit ask one source of advisories."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "-r", str(file), "--no-deps", "--disable-pip"]
        command += ["-s", source, "-f", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return {}, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    reasons = [one["skip_reason"] for one in told if "vulns" not in one]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    audited = {canonicalize_name(one["name"]): one["vulns"] for one in told if "vulns" in one}
    return audited, "".join(reasons[:1]) + more


def main(
    packages: Mapping[str, str] | None = None,
    ask: Callable[[str, Mapping[str, str]], Asked] = ask,
) -> int:
    """Audit, say what came of it, and return the exit status."""
    packages = closure() if packages is None else packages
    audited: dict[str, list[dict[str, Any]]] = {}
    reasons = []
    for source in SOURCES:
        if left := {name: packages[name] for name in packages if name not in audited}:
            found, reason = ask(source, left)
            audited |= found
            reasons += [f"{source}: {reason}"] if reason else []
    for name, vulnerabilities in audited.items():
        for one in vulnerabilities:
            print(f"{name} {packages[name]}: {one['id']}, mended in {one['fix_versions']}")
    print(f"audited {len(audited)} of {len(packages)} packages")
    if any(audited.values()):
        return 1
    if len(audited) < len(packages):
        print(f"skipped: {'; '.join(reasons)}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
