"""Who reaches a port of a pod, by the NetworkPolicies of a set of manifests."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.cluster.manifests import Document

NAMESPACE = "idm-ray"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A pod that tries to connect."""

    labels: Document
    namespace: str = NAMESPACE


def reaches(caller: Caller, labels: Document, port: int, policies: Iterable[Document]) -> bool:
    """Whether a pod of these labels lets a caller in; without a policy for it, it lets in all."""
    ours = [
        policy["spec"]
        for policy in policies
        if "Ingress" in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], labels)
    ]
    rules = [rule for policy in ours for rule in policy.get("ingress", [])]
    return not ours or any(_lets_in(rule, caller, port) for rule in rules)


def _lets_in(rule: Document, caller: Caller, port: int) -> bool:
    ports = [entry["port"] for entry in rule.get("ports", [])]
    peers = rule.get("from", [])
    return (not ports or port in ports) and (not peers or any(_is(caller, peer) for peer in peers))


def _is(caller: Caller, peer: Document) -> bool:
    if "namespaceSelector" in peer:
        where = _selects(
            peer["namespaceSelector"], {"kubernetes.io/metadata.name": caller.namespace}
        )
    else:
        where = caller.namespace == NAMESPACE
    return where and _selects(peer.get("podSelector", {}), caller.labels)


def _selects(selector: Document, labels: Document) -> bool:
    assert set(selector) <= {"matchLabels"}, "only matchLabels is understood here"
    return selector.get("matchLabels", {}).items() <= labels.items()
