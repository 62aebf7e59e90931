"""Reads the manifests of cluster/kuberay: file by file, and as kubectl builds them."""

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
KUBERAY = ROOT / "cluster" / "kuberay"
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())
FILES = sorted(path for path in KUBERAY.rglob("*.yaml") if path.name != "kustomization.yaml")

Document = dict[str, Any]


def read(text: str) -> list[Document]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it
    return [document for document in yaml.load_all(text, loader) if document]


@functools.cache
def why_not_built() -> str:
    """Why kustomizations cannot be built here; empty if they can."""
    if shutil.which("kubectl") is None:
        return "no kubectl"
    told = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True
    )
    version = json.loads(told.stdout)["clientVersion"]
    number = int(version["major"]), int("".join(filter(str.isdigit, version["minor"])))
    return "" if number >= (1, 27) else f"kubectl {version['gitVersion']} is older than 1.27"


@functools.cache
def built(overlay: str) -> str:
    """What `kubectl apply -k` would send."""
    folder = KUBERAY / "overlays" / overlay
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod that KubeRay will make.

    Attributes:
        role: head, worker or submitter.
        template: as the manifest has it, with metadata and spec.
        start: Ray's parameters of the node.
    """

    role: str
    template: Document
    start: Document

    @property
    def spec(self) -> Document:
        return self.template["spec"]

    @property
    def main(self) -> Document:
        """The container that KubeRay takes for Ray's, or the submitter's."""
        return self.spec["containers"][0]


def cluster_of(document: Document) -> Document | None:
    """The specification of a Ray cluster in a document."""
    if document["kind"] == "RayJob":
        return document["spec"].get("rayClusterSpec")
    return document["spec"] if document["kind"] == "RayCluster" else None


def pods_of(document: Document) -> Iterator[Pod]:
    if (cluster := cluster_of(document)) is None:
        return
    head = cluster["headGroupSpec"]
    yield Pod(role="head", template=head["template"], start=head["rayStartParams"])
    for group in cluster["workerGroupSpecs"]:
        yield Pod(role="worker", template=group["template"], start=group["rayStartParams"])
    if document["kind"] == "RayJob":
        yield Pod(role="submitter", template=document["spec"]["submitterPodTemplate"], start={})


def containers_of(document: Document) -> Iterator[Document]:
    """All containers, and what is said of the one that KubeRay adds for the autoscaler."""
    for pod in pods_of(document):
        yield from pod.spec.get("initContainers", [])
        yield from pod.spec["containers"]
    options = (cluster_of(document) or {}).get("autoscalerOptions")
    if options is not None:
        yield {"name": "autoscaler", **options}


def amount(quantity: str) -> float:
    """Bytes of a quantity of Kubernetes or of an option of ours, such as 8Gi or 24GB."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "MB": 1e6, "GB": 1e9}
    number, unit = (quantity[:-2], quantity[-2:]) if quantity[-2:] in units else (quantity, "")
    return float(number) * units.get(unit, 1)
