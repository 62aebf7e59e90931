"""The manifests of cluster/kuberay are right, and mistakes in them are found."""

import re

import pytest
import yaml

from idm_ray.data.classes import parse_classes
from idm_ray.data.known import IMAGENET_SUBSET
from tests.cluster import rules
from tests.cluster.manifests import (
    FILES,
    KUBERAY,
    OVERLAYS,
    built,
    cluster_of,
    pods_of,
    read,
    why_not_built,
)

needs_kubectl = pytest.mark.skipif(bool(why_not_built()), reason=why_not_built() or "built")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_right_by_itself(file):
    alone = [rule for rule in rules.RULES if rule not in rules.OF_A_WHOLE]
    documents = read(file.read_text())
    assert documents
    # The storage class, for one, is filled in by the settings.
    if file.name == "volume-claim.yaml":
        documents[0]["spec"]["storageClassName"] = "filled-in"
    assert rules.wrongs(documents, alone) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_right(overlay):
    documents = read(built(overlay))
    assert rules.wrongs(documents) == []
    # Nothing is left that the settings should have filled in.
    assert not re.search(
        r"\b(BUCKET|OUT|SHARDS|RUN|STORAGE_CLASS|KUEUE_QUEUE|S3_ROLE_ARN)\b(?!:)",
        "\n".join(yaml.safe_dump(d) for d in documents if d["kind"] != "ConfigMap"),
    )


def one(documents, kind):
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_go_where_they_belong(overlay):
    documents = read(built(overlay))
    ray = next(document for document in documents if cluster_of(document))
    shown = yaml.safe_dump(ray, width=1000)
    scheme = {"s3": "s3://example-bucket", "gcs": "gs://example-bucket", "volume": "/mnt/idm-ray"}
    root = next(place for name, place in scheme.items() if f"-{name}" in overlay)
    head, worker, *_ = pods_of(ray)
    env = {entry["name"]: entry["value"] for entry in head.main["env"]}
    assert env["IDM_RAY_SHARDS"] == f"{root}/imagenet-224"
    if ray["kind"] == "RayJob":
        folder = "searches" if "tune" in overlay else "runs"
        assert f"--out {root}/{folder}/imagenet-subset-ipc10 --ipc 10" in shown
        assert ("tune" in overlay) == (f"--data {root}/imagenet-224" in shown)
    assert ("volume" in overlay) == all("shared" in str(pod.spec) for pod in (head, worker))
    assert ("spot" in overlay) == ("affinity" in worker.spec) == ("affinity" in head.spec)
    assert ("kueue" in overlay) == ("kueue.x-k8s.io/queue-name: idm-ray" in shown)
    accounts = [document for document in documents if document["kind"] == "ServiceAccount"]
    assert ("s3" in overlay) == all("role/idm-ray" in str(account) for account in accounts)


def test_the_pods_of_all_clusters_are_alike():
    def plain(document):
        text = yaml.safe_dump([pod.spec for pod in pods_of(document) if pod.role == "worker"])
        return text.replace(document["metadata"]["name"], "NAME")

    rays = [d for file in FILES for d in read(file.read_text()) if cluster_of(d)]
    assert len(rays) == 3
    assert len({plain(document) for document in rays}) == 1


def test_every_setting_goes_somewhere():
    lines = (KUBERAY / "settings" / "settings.env").read_text().splitlines()
    keys = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    wiring = (KUBERAY / "settings" / "kustomization.yaml").read_text()
    used = re.findall(r"name: idm-ray-settings, fieldPath: data.(\w+)", wiring)
    assert keys == set(used)


def test_the_classes_that_are_there_to_begin_with_are_the_paper_s():
    assert parse_classes(str(KUBERAY / "settings" / "classes.txt")) == IMAGENET_SUBSET


def test_patches_are_json_patches():
    for file in KUBERAY.rglob("kustomization.yaml"):
        content = yaml.safe_load(file.read_text())
        assert "patchesStrategicMerge" not in content
        for patch in content.get("patches", []):
            assert all(step["op"] in ("add", "replace") for step in yaml.safe_load(patch["patch"]))


# --- Mistakes are found ---


def put(path, value):
    """A mistake: a value at a path of the job, or None to take away what is there."""

    def make(documents):
        *way, last = (int(p) if p.isdigit() else p for p in path.split("/"))
        place = one(documents, "RayJob")["spec"]
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return make


def of(kind, change):
    """A mistake in the one object of another kind."""
    return lambda documents: change(one(documents, kind))


def policy(change):
    """A mistake in the policy of the cluster."""

    def make(documents):
        found = [d for d in documents if d["kind"] == "NetworkPolicy"]
        change(next(d for d in found if d["metadata"]["name"] == "imagenet-subset"))

    return make


HEAD = "rayClusterSpec/headGroupSpec"
GROUP = "rayClusterSpec/workerGroupSpecs/0"
POD = f"{GROUP}/template/spec"
RAY = f"{POD}/containers/0"
START = "python /opt/idm_ray/pipelines/imagenet_subset.py --out /mnt/x --cache-dir /cache "
SCRIPT = "/opt/idm_ray/pipelines/imagenet_subst.py"
ANYBODY = {"ports": [{"port": 8265}]}
TOKEN = {"name": "cache", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}

MISTAKES = {
    "a misspelt field of the job": (
        rules.fields,
        put("backofLimit", 3),
        "spec.backofLimit: no such field",
    ),
    "a misspelt field of the cluster": (
        rules.fields,
        put("rayClusterSpec/rayversion", "2.60.0"),
        "rayversion",
    ),
    "a misspelt field of a pod": (rules.fields, put(f"{POD}/toleration", []), "toleration"),
    "a misspelt field of a container": (rules.fields, put(f"{RAY}/volumeMount", []), "volumeMount"),
    "a number where words belong": (
        rules.fields,
        put(f"{HEAD}/rayStartParams/num-cpus", 0),
        "0 is no string",
    ),
    "words where a number belongs": (rules.fields, put("backoffLimit", "5"), "'5' is no int"),
    "an old version of the API": (
        rules.fields,
        of("RayJob", lambda job: job.update(apiVersion="ray.io/v1alpha1")),
        "expected ray.io/v1",
    ),
    "a field that a claim has not": (
        rules.fields,
        of("PersistentVolumeClaim", lambda claim: claim["spec"].update(accessMode="X")),
        "accessMode",
    ),
    "a long name": (
        rules.names,
        of("RayJob", lambda job: job["metadata"].update(name="x" * 48)),
        "at most 47 characters",
    ),
    "a name with a dot": (
        rules.names,
        of("RayJob", lambda job: job["metadata"].update(name="a.b")),
        "expected a DNS-1035 label",
    ),
    "a misspelt mode": (
        rules.jobs,
        put("submissionMode", "K8SJobMode"),
        "submissionMode K8SJobMode",
    ),
    "a cluster that stays": (
        rules.jobs,
        put("shutdownAfterJobFinishes", False),
        "must go some time after",
    ),
    "a deadline behind the other": (
        rules.jobs,
        put("activeDeadlineSeconds", 60),
        "must be less than",
    ),
    "a retry that begins anew": (rules.jobs, put("entrypoint", START), "--resume auto"),
    "a group that is not fixed": (rules.jobs, put(f"{GROUP}/minReplicas", 1), "must be fixed"),
    "too many replicas": (rules.clusters, put(f"{GROUP}/replicas", 9), "must lie between"),
    "no token": (
        rules.clusters,
        put("rayClusterSpec/authOptions/mode", "disabled"),
        "authentication is off",
    ),
    "work on the head": (
        rules.clusters,
        put(f"{HEAD}/rayStartParams/num-cpus", "2"),
        "computed on the head",
    ),
    "an autoscaler of the old kind": (
        rules.clusters,
        put("rayClusterSpec/enableInTreeAutoscaling", True),
        "must be v2",
    ),
    "another version of Ray": (
        rules.versions,
        put("rayClusterSpec/rayVersion", "2.59.0"),
        "rayVersion 2.59.0",
    ),
    "another version in the image": (
        rules.versions,
        put(f"{RAY}/image", "x/idm-ray:2.60.1"),
        "tag 2.60.1",
    ),
    "an unknown option": (
        rules.entrypoints,
        put("entrypoint", f"{START} --ipcc 3 --resume auto"),
        "--ipcc",
    ),
    "a value that an option does not take": (
        rules.entrypoints,
        put("entrypoint", f"{START} --ipc ten"),
        "ipc must be",
    ),
    "a script that is not there": (
        rules.entrypoints,
        put("entrypoint", f"python {SCRIPT} --out x"),
        "no such",
    ),
    "a path that is not in the image": (
        rules.entrypoints,
        put("entrypoint", "python pipelines/x.py"),
        "expected",
    ),
    "part of a CPU": (
        rules.resources,
        put(f"{RAY}/resources", {"limits": {"cpu": "7.5"}}),
        "whole number, got 7.5",
    ),
    "a CPU that is a float": (
        rules.resources,
        put(f"{RAY}/resources/limits/cpu", 7.5),
        "whole number, got 7.5",
    ),
    "a request below the limit": (
        rules.resources,
        put(f"{RAY}/resources/requests/memory", "8Gi"),
        "differ",
    ),
    "no limits": (rules.resources, put(f"{RAY}/resources/limits", None), "differ"),
    "a large object store": (
        rules.sizes,
        put(f"{GROUP}/rayStartParams/object-store-memory", "20000000000"),
        "fit into half of the memory",
    ),
    "volumes without a bound": (rules.sizes, put(f"{POD}/volumes/0/emptyDir", {}), "no sizeLimit"),
    "volumes larger than the disk": (
        rules.sizes,
        put(f"{POD}/volumes/0/emptyDir/sizeLimit", "100Gi"),
        "larger than its ephemeral-storage",
    ),
    "logs outside their volume": (
        rules.sizes,
        put(f"{RAY}/volumeMounts/0/mountPath", "/x"),
        "/tmp/ray must be",
    ),
    "a cache that outgrows its volume": (
        rules.sizes,
        put("entrypoint", f"{START} --cache-limit 90GB --resume auto"),
        "outgrow its volume",
    ),
    "a cache without a bound": (
        rules.sizes,
        put("entrypoint", f"{START} --resume auto"),
        "outgrow its volume",
    ),
    "root": (rules.pod_security, put(f"{POD}/securityContext/runAsNonRoot", None), "runs as root"),
    "no seccomp": (
        rules.pod_security,
        put(f"{POD}/securityContext/seccompProfile", None),
        "seccompProfile",
    ),
    "the node's network": (
        rules.pod_security,
        put(f"{POD}/hostNetwork", True),
        "hostNetwork is not allowed",
    ),
    "a folder of the node": (
        rules.pod_security,
        put(f"{POD}/volumes/0", {"name": "ray-logs", "hostPath": {"path": "/"}}),
        "the kind of volume ray-logs",
    ),
    "a privileged container": (
        rules.container_security,
        put(f"{RAY}/securityContext/privileged", True),
        "gain privileges",
    ),
    "a container that keeps capabilities": (
        rules.container_security,
        put(f"{RAY}/securityContext/capabilities", None),
        "keeps capabilities",
    ),
    "a submitter without a context": (
        rules.container_security,
        put("submitterPodTemplate/spec/containers/0/securityContext", None),
        "ray-job-submitter: may gain privileges",
    ),
    "a port of the node": (
        rules.container_security,
        put(f"{RAY}/ports", [{"containerPort": 8265, "hostPort": 8265}]),
        "hostPort",
    ),
    "a secret": (
        rules.secrets,
        lambda documents: documents.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
        ),
        "holds no secret",
    ),
    "a key": (
        rules.secrets,
        put(f"{RAY}/env/0", {"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}),
        "looks like a key",
    ),
    "a token of Kubernetes": (
        rules.tokens,
        put(f"{POD}/automountServiceAccountToken", None),
        "gets a token",
    ),
    "a token in a volume": (rules.tokens, put(f"{POD}/volumes/1", TOKEN), "mounts a token"),
    "an account with tokens": (
        rules.tokens,
        of("ServiceAccount", lambda account: account.pop("automountServiceAccountToken")),
        "its pods get tokens",
    ),
    "a pod that is killed early": (
        rules.endings,
        put(f"{HEAD}/template/spec/terminationGracePeriodSeconds", 60),
        "cut short",
    ),
    "no time to commit": (
        rules.endings,
        put(f"{HEAD}/template/spec/containers/0/env/1/value", "3"),
        "head: 3 s to commit",
    ),
    "a script that the head has not": (
        rules.endings,
        put(f"{HEAD}/template/spec/containers/0/lifecycle/preStop/exec/command/1", "/opt/x.py"),
        "/opt/x.py: no such script",
    ),
    "a claim that is not there": (
        rules.definitions,
        put(f"{POD}/volumes/3/persistentVolumeClaim/claimName", "other"),
        "no PersistentVolumeClaim other",
    ),
    "a ConfigMap that is not there": (
        rules.definitions,
        put(f"{POD}/volumes/2/configMap/name", "other"),
        "no ConfigMap other",
    ),
    "an account that is not there": (
        rules.definitions,
        put(f"{POD}/serviceAccountName", "x"),
        "no ServiceAccount x",
    ),
    "a volume that is not there": (
        rules.definitions,
        put(f"{RAY}/volumeMounts/1/name", "x"),
        "no volume x",
    ),
    "a dashboard for all": (
        rules.networks,
        policy(lambda it: it["spec"]["ingress"].append(ANYBODY)),
        "a stranger reaches port 8265",
    ),
    "all ports for Prometheus": (
        rules.networks,
        policy(lambda it: it["spec"]["ingress"][2].pop("ports")),
        "Prometheus reaches port 6379",
    ),
    "an operator of any namespace": (
        rules.networks,
        policy(lambda it: it["spec"]["ingress"][1]["from"][0].update(namespaceSelector={})),
        "a false operator reaches port 8265",
    ),
    "clusters that reach each other": (
        rules.networks,
        policy(
            lambda it: it["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"].pop(
                "app.kubernetes.io/instance"
            )
        ),
        "another cluster reaches port 6379",
    ),
    "a policy of the wrong direction": (
        rules.networks,
        policy(lambda it: it["spec"].update(policyTypes=["Egress"])),
        "the submitter does not reach port 8265",
    ),
    "a policy for other pods": (
        rules.networks,
        put(f"{GROUP}/template/metadata/labels", {"app.kubernetes.io/instance": "x"}),
        "do not reach each other",
    ),
    "no policy for the rest": (
        rules.networks,
        lambda documents: documents.remove(
            next(d for d in documents if d["metadata"]["name"] == "nobody-by-default")
        ),
        "that no policy names",
    ),
}


@needs_kubectl
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    rule, make, told = MISTAKES[mistake]
    documents = read(built("imagenet-subset-volume"))
    make(documents)
    found = list(rule(documents))
    assert any(told in wrong for wrong in found), found


def test_every_rule_has_a_mistake_that_it_finds():
    assert {rule for rule, _, _ in MISTAKES.values()} == {*rules.RULES}


@needs_kubectl
def test_mistakes_with_the_autoscaler_are_found():
    documents = read(built("interactive-s3"))
    ray = one(documents, "RayCluster")["spec"]
    options = ray["autoscalerOptions"]
    options["resources"]["requests"]["cpu"] = "250m"
    del options["securityContext"]
    ray["workerGroupSpecs"][0]["template"]["spec"]["restartPolicy"] = "Always"
    ray["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"] += [
        {"name": "kubernetes-token", "mountPath": "/x"}
    ]
    assert rules.wrongs(documents) == [
        "with autoscaler v2, restartPolicy must be Never",
        "autoscaler: requests and limits differ",
        "autoscaler: may gain privileges",
        "autoscaler: keeps capabilities",
        "head: mounts a token",
    ]
