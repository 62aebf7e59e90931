"""Reads cluster/Dockerfile: its instructions, and its RUN steps as this machine could run them."""

import re
from dataclasses import dataclass

from tests.cluster.manifests import ROOT

PATH = ROOT / "cluster" / "Dockerfile"


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One of a Dockerfile, its lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """What it is given, without its own options."""
        return [word for word in self.text.split() if not word.startswith("--")]


def instructions() -> list[Instruction]:
    lines = [line for line in PATH.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [Instruction(name=name, text=" ".join(text.split())) for name, text in pairs]


def variables() -> dict[str, str]:
    """Those that are set before the first stage."""
    before = re.split(r"^FROM", PATH.read_text(), flags=re.MULTILINE)[0]
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", before, flags=re.MULTILINE))


def pip_steps() -> list[str]:
    """The RUN instructions that install something with pip, in order, variables filled in."""
    steps = [step.text for step in instructions() if step.name == "RUN" and "pip " in step.text]
    for name, value in variables().items():
        steps = [step.replace(f"${{{name}}}", value) for step in steps]
    return steps
