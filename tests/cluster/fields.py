"""Whether a document has only fields that exist, of the right kind.

Pods and Kubernetes' own objects are compared with Kubernetes' schemas. Of KubeRay's there is here
what these manifests use: a field that is new to them is added to the table, once it was looked up.
"""

from itertools import chain
from typing import Any

import kubernetes_validate

from tests.cluster.manifests import Document

KUBERNETES = "1.33"
POD = object()
STRINGS = object()
PART = object()  # of a container: looked at where containers are

_AUTOSCALER = {
    "version": str,
    "idleTimeoutSeconds": int,
    "upscalingMode": str,
    "resources": PART,
    "securityContext": PART,
    "volumeMounts": PART,
}
_CLUSTER = {
    "rayVersion": str,
    "authOptions": {"mode": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": _AUTOSCALER,
    "headGroupSpec": {"rayStartParams": STRINGS, "template": POD},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": STRINGS,
            "template": POD,
        }
    ],
}
_JOB = {
    "submissionMode": str,
    "entrypoint": str,
    "backoffLimit": int,
    "preRunningDeadlineSeconds": int,
    "activeDeadlineSeconds": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "suspend": bool,
    "submitterConfig": {"backoffLimit": int},
    "submitterPodTemplate": POD,
    "rayClusterSpec": _CLUSTER,
}
_OURS = {"RayJob": _JOB, "RayCluster": _CLUSTER}


def wrong_fields(document: Document) -> list[str]:
    """A line for each field that does not exist or holds the wrong kind of value."""
    if document["kind"] not in _OURS:
        return _refused_by_kubernetes(document)
    if document["apiVersion"] != "ray.io/v1":
        return [f"apiVersion: expected ray.io/v1, got {document['apiVersion']}"]
    unknown = set(document) - {"apiVersion", "kind", "metadata", "spec"}
    found = [f"{name}: no such field" for name in sorted(unknown)]
    return found + _differences(document["spec"], _OURS[document["kind"]], "spec")


def _differences(value: Any, wanted: Any, where: str) -> list[str]:
    if wanted is PART:
        return []
    if wanted is POD:
        metadata = {"name": "pod", **value.get("metadata", {})}
        return _refused_by_kubernetes(
            {"apiVersion": "v1", "kind": "Pod", **value, "metadata": metadata}
        )
    if wanted is STRINGS:
        return [f"{where}.{k}: {v!r} is no string" for k, v in value.items() if type(v) is not str]
    if isinstance(wanted, list):
        items = (_differences(item, wanted[0], f"{where}[{n}]") for n, item in enumerate(value))
        return list(chain.from_iterable(items))
    if not isinstance(wanted, dict):
        return [] if type(value) is wanted else [f"{where}: {value!r} is no {wanted.__name__}"]
    found = [f"{where}.{name}: no such field" for name in value if name not in wanted]
    for name in wanted.keys() & value.keys():
        found += _differences(value[name], wanted[name], f"{where}.{name}")
    return found


def _refused_by_kubernetes(document: Document) -> list[str]:
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']}.{'.'.join(map(str, error.path))}: {error.message}"]
    return []
