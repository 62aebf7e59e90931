"""What must hold of the manifests; each rule tells what is wrong, a line each."""

import configparser
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise

from packaging.requirements import Requirement

from tests.cluster.entrypoints import wrong_words
from tests.cluster.fields import wrong_fields
from tests.cluster.manifests import ROOT, Document, amount, cluster_of, containers_of, pods_of
from tests.cluster.networks import Caller, reaches

LONGEST_NAME = {"RayJob": 47, "RayCluster": 53}
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DASHBOARD, CLIENT, GCS, METRICS = 8265, 10001, 6379, 8080
# Time to commit and to upload; a run commits within some seconds of SIGTERM.
SHORTEST_WAIT_S = 30
VOLUMES_OF_RESTRICTED_PODS = {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}
KEY_LIKE = re.compile(
    r"AKIA[A-Z0-9]{16}|PRIVATE KEY|SECRET_ACCESS_KEY|PASSWORD|\"private_key\"", re.I
)


def fields(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        yield from wrong_fields(document)


def names(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        name, most = document["metadata"]["name"], LONGEST_NAME.get(document["kind"], 63)
        if len(name) > most or not DNS_1035.fullmatch(name):
            yield f"{name}: expected a DNS-1035 label of at most {most} characters"


def jobs(documents: list[Document]) -> Iterator[str]:
    for spec in (d["spec"] for d in documents if d["kind"] == "RayJob"):
        if spec["submissionMode"] != "K8sJobMode":
            yield f"submissionMode {spec['submissionMode']}: another pod template is needed for it"
        if not (
            spec.get("shutdownAfterJobFinishes") and spec.get("ttlSecondsAfterFinished", 0) > 0
        ):
            yield "a cluster must go some time after its job"
        if not 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]:
            yield "preRunningDeadlineSeconds must be less than activeDeadlineSeconds"
        if spec["backoffLimit"] and "--resume auto" not in spec["entrypoint"]:
            yield "a job that is tried again must go on: --resume auto"
        for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
            if len({group["replicas"], group["minReplicas"], group["maxReplicas"]}) > 1:
                yield "the group of a job must be fixed"


def clusters(documents: list[Document]) -> Iterator[str]:
    for cluster in filter(None, map(cluster_of, documents)):
        if cluster.get("authOptions") != {"mode": "token"}:
            yield "token authentication is off"
        if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
            yield 'nothing may be computed on the head: num-cpus "0"'
        for group in cluster["workerGroupSpecs"]:
            if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
                yield "replicas must lie between minReplicas and maxReplicas"
        if cluster.get("enableInTreeAutoscaling"):
            if cluster.get("autoscalerOptions", {}).get("version") != "v2":
                yield "the autoscaler must be v2"
            for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
                if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                    yield "with autoscaler v2, restartPolicy must be Never"


def versions(documents: list[Document]) -> Iterator[str]:
    pinned = re.search(r"^ARG RAY_VERSION=(\S+)$", (ROOT / "cluster/Dockerfile").read_text(), re.M)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = map(Requirement, setup["options"]["install_requires"].split())
    ray = next(requirement for requirement in needed if requirement.name == "ray")
    for document in documents:
        if (cluster := cluster_of(document)) is None:
            continue
        version = cluster["rayVersion"]
        if version != pinned[1] or version not in ray.specifier:
            yield f"rayVersion {version}: the Dockerfile has {pinned[1]}, setup.cfg {ray.specifier}"
        for pod in pods_of(document):
            if (tag := pod.main["image"].rpartition(":")[2]) != version:
                yield f"image tag {tag}: rayVersion is {version}"


def entrypoints(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        if document["kind"] == "RayJob":
            yield from wrong_words(document["spec"]["entrypoint"])


def resources(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        for container in containers_of(document):
            given = container.get("resources", {})
            if not given.get("limits") or given.get("limits") != given.get("requests"):
                yield f"{container['name']}: requests and limits differ"
        for pod in pods_of(document):
            cpu = pod.main.get("resources", {}).get("limits", {}).get("cpu")
            if pod.role != "submitter" and not re.fullmatch(r"[1-9][0-9]*", str(cpu)):
                yield f"{pod.role}: cpu must be a whole number, got {cpu}"


def sizes(documents: list[Document]) -> Iterator[str]:
    """What lies in memory or on the node's disk has room there."""
    for document in documents:
        for pod in pods_of(document):
            limits = pod.main.get("resources", {}).get("limits", {})
            if pod.role != "submitter" and not (
                0 < float(pod.start.get("object-store-memory", 0)) <= amount(limits["memory"]) / 2
            ):
                yield f"{pod.role}: the object store must fit into half of the memory"
            own = {v["name"]: v["emptyDir"] for v in pod.spec.get("volumes", []) if "emptyDir" in v}
            if any("sizeLimit" not in volume for volume in own.values()):
                yield f"{pod.role}: an emptyDir has no sizeLimit"
            total = sum(amount(volume.get("sizeLimit", "0")) for volume in own.values())
            if total > amount(limits.get("ephemeral-storage", "0")):
                yield f"{pod.role}: its volumes are larger than its ephemeral-storage"
            mounts = {m["mountPath"]: m["name"] for m in pod.main.get("volumeMounts", [])}
            if pod.role != "submitter" and mounts.get("/tmp/ray") != "ray-logs":
                yield f"{pod.role}: /tmp/ray must be the volume ray-logs"
            if document["kind"] == "RayJob" and pod.role == "worker":
                words = shlex.split(document["spec"]["entrypoint"])
                said = dict(pairwise(words))
                cache = own.get(mounts.get(said.get("--cache-dir")), {"sizeLimit": "0"})
                if amount(said.get("--cache-limit", "1Ti")) >= amount(cache["sizeLimit"]):
                    yield "the cache may outgrow its volume"


def pod_security(documents: list[Document]) -> Iterator[str]:
    """What `restricted` asks of a pod, and how little this project needs of what it allows."""
    for pod in (pod for document in documents for pod in pods_of(document)):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{pod.role}: runs as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.role}: seccompProfile is not RuntimeDefault"
        if shared := {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec):
            yield f"{pod.role}: {min(shared)} is not allowed"
        for volume in pod.spec.get("volumes", []):
            if not set(volume) - {"name"} <= VOLUMES_OF_RESTRICTED_PODS:
                yield f"{pod.role}: the kind of volume {volume['name']} is not allowed"


def container_security(documents: list[Document]) -> Iterator[str]:
    """The same of a container; KubeRay's init container takes after that of a worker."""
    for container in (each for document in documents for each in containers_of(document)):
        context, name = container.get("securityContext", {}), container["name"]
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        if "hostPort" in str(container.get("ports")) or context.get("runAsUser") == 0:
            yield f"{name}: hostPort or root"


def secrets(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        if document["kind"] == "Secret" or "secretKeyRef" in str(document):
            yield f"{document['metadata']['name']}: a manifest holds no secret"
        if found := KEY_LIKE.search(str(document)):
            yield f"{document['metadata']['name']}: {found[0]} looks like a key"


def tokens(documents: list[Document]) -> Iterator[str]:
    """Kubernetes' own: nobody has one but the autoscaler."""
    for document in documents:
        account = document if document["kind"] == "ServiceAccount" else None
        if account and account.get("automountServiceAccountToken") is not False:
            yield f"{account['metadata']['name']}: its pods get tokens"
        for pod in pods_of(document):
            if pod.spec.get("automountServiceAccountToken") is not False:
                yield f"{pod.role}: gets a token"
            held = {
                v["name"] for v in pod.spec.get("volumes", []) if "serviceAccountToken" in str(v)
            }
            if held & {mount["name"] for mount in pod.main.get("volumeMounts", [])}:
                yield f"{pod.role}: mounts a token"


def endings(documents: list[Document]) -> Iterator[str]:
    """A pod stays long enough for the run to commit."""
    for document in documents:
        for pod in pods_of(document):
            if pod.role == "submitter":
                continue
            told = {entry["name"]: entry.get("value") for entry in pod.main.get("env", [])}
            *_, last = pod.main["lifecycle"]["preStop"]["exec"]["command"]
            wait_s = float(told["RAY_JOB_STOP_WAIT_TIME_S"] if pod.role == "head" else last)
            if not SHORTEST_WAIT_S <= wait_s < pod.spec.get("terminationGracePeriodSeconds", 30):
                yield f"{pod.role}: {wait_s:g} s to commit: too short, or cut short"
            if pod.role == "head" and not (ROOT / "cluster" / last.rpartition("/")[2]).exists():
                yield f"{last}: no such script"


def definitions(documents: list[Document]) -> Iterator[str]:
    """What pods name is there."""
    there = {(d["kind"], d["metadata"]["name"]) for d in documents}
    there |= {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
    for document in documents:
        for pod in pods_of(document):
            used = {("ServiceAccount", pod.spec.get("serviceAccountName", "default"))}
            for volume in pod.spec.get("volumes", []):
                if "configMap" in volume:
                    used.add(("ConfigMap", volume["configMap"]["name"]))
                if "persistentVolumeClaim" in volume:
                    used.add(
                        ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                    )
            for kind, name in sorted(used - there):
                yield f"{pod.role}: there is no {kind} {name}"
            volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
            for mount in pod.main.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{pod.role}: there is no volume {mount['name']}"


def networks(documents: list[Document]) -> Iterator[str]:
    """Who reaches Ray's ports: its own cluster; and a few, one port each."""
    policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
    if reaches(Caller(labels={}), {}, DASHBOARD, policies):
        yield "a pod that no policy names is reached by all"
    for document in documents:
        if cluster_of(document) is None:
            continue
        pods = {pod.role: pod.template["metadata"]["labels"] for pod in pods_of(document)}
        operator = {"app.kubernetes.io/component": "kuberay-operator"}
        outside = {
            "another cluster": Caller(labels=pods["head"] | {"app.kubernetes.io/instance": "else"}),
            "a stranger": Caller(labels={}),
            "KubeRay's operator": Caller(labels=operator, namespace="kuberay-system"),
            "a false operator": Caller(labels=operator, namespace="elsewhere"),
            "Prometheus": Caller(labels={}, namespace="monitoring"),
        }
        wanted = {("KubeRay's operator", DASHBOARD), ("Prometheus", METRICS)}
        if "submitter" in pods:
            outside["the submitter"] = Caller(labels=pods["submitter"])
            wanted.add(("the submitter", DASHBOARD))
        found = {
            (name, port)
            for name, caller in outside.items()
            for port in (DASHBOARD, CLIENT, GCS, METRICS)
            if reaches(caller, pods["head"], port, policies)
        }
        for name, port in sorted(found ^ wanted):
            yield f"{name} {'reaches' if (name, port) in found else 'does not reach'} port {port}"
        own = [
            reaches(Caller(labels=pods[one]), pods[other], port, policies)
            for one, other in (("head", "worker"), ("worker", "head"))
            for port in (GCS, 20000)
        ]
        if not all(own):
            yield "head and workers do not reach each other"


RULES = (
    fields,
    names,
    jobs,
    clusters,
    versions,
    entrypoints,
    resources,
    sizes,
    pod_security,
    container_security,
    secrets,
    tokens,
    endings,
    definitions,
    networks,
)
# Of a whole: a file alone does not have what others define.
OF_A_WHOLE = (definitions, networks)


def wrongs(documents: list[Document], rules=RULES) -> list[str]:
    return [wrong for rule in rules for wrong in rule(documents)]
