"""The files of `deploy/kubernetes`, without a cluster: valid by the schemas of Kubernetes, and consistent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml

from shared import ROOT, keys
from shared.settings import Settings
from shared.store import Store
from tests.pictures import seven

FOLDER = ROOT / "deploy" / "kubernetes"
FOLDERS = [FOLDER / "base", FOLDER / "keda"]
OLDEST, NEWEST = "1.30", "1.37"


def read(file: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


KUSTOMIZATIONS = {folder.name: read(folder / "kustomization.yaml")[0] for folder in FOLDERS}
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.yaml")) if file.stem != "kustomization"]
OBJECTS = {f"{one['kind']}/{one['metadata']['name']}": one for file in FILES for one in read(file)}
PODS = {name.split("/")[1]: one["spec"]["template"] for name, one in OBJECTS.items() if "template" in one["spec"]}
SCALED = OBJECTS.pop("ScaledObject/worker")["spec"]
PART_OF = KUSTOMIZATIONS["base"]["labels"][0]["pairs"]


def selectors(found: Any) -> list[dict[str, str]]:
    """Every `matchLabels` within, and a service's selector."""
    if isinstance(found, list):
        return [one for part in found for one in selectors(part)]
    if not isinstance(found, dict):
        return []
    here = [found["matchLabels"]] if "matchLabels" in found else []
    return here + [one for key, part in found.items() if key != "namespaceSelector" for one in selectors(part)]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", OBJECTS)
def test_each_object_is_one_that_kubernetes_takes(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_file_is_part_of_its_kustomization(folder: Path) -> None:
    named = {one for one in KUSTOMIZATIONS[folder.name]["resources"] if not one.startswith("..")}
    assert named == {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize("name", OBJECTS)
def test_each_selector_finds_an_object(name: str) -> None:
    labels = [PART_OF | pod["metadata"]["labels"] for pod in PODS.values()]
    service = [OBJECTS[name]["spec"]["selector"]] if name.startswith("Service/") else []
    for wanted in service + selectors(OBJECTS[name]["spec"]):
        if wanted not in ({"k8s-app": "kube-dns"}, {"app.kubernetes.io/name": "prometheus"}):
            assert any(wanted.items() <= one.items() for one in labels), wanted


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_may_write_nothing_but_its_volumes_gains_nothing_and_is_watched(pod: str) -> None:
    spec = PODS[pod]["spec"]
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "livenessProbe" in container and "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", ["web", "worker"])
def test_ours_get_settings_that_exist_from_images_that_are_built(pod: str) -> None:
    [container] = PODS[pod]["spec"]["containers"]
    [generated], images = KUSTOMIZATIONS["base"]["configMapGenerator"], KUSTOMIZATIONS["base"]["images"]
    assert container["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
    settings = Settings.from_env(dict(one.split("=", 1) for one in generated["literals"]))
    assert settings.redis_url == "redis://redis:6379/0" and "Service/redis" in OBJECTS
    assert container["image"] in {one["name"] for one in images}
    assert container["args"] == [pod] and (ROOT / f"Dockerfile.{pod}").exists()


@pytest.mark.parametrize("pod", ["web", "worker"])
def test_prometheus_finds_the_port_of_each_and_may_reach_it(pod: str) -> None:
    [container] = PODS[pod]["spec"]["containers"]
    [listens] = [one["containerPort"] for one in container["ports"]]
    given = Settings.from_env({one["name"]: one["value"] for one in container.get("env", [])})
    assert listens == (given.port if pod == "web" else given.metrics_port)
    assert PODS[pod]["metadata"]["annotations"]["prometheus.io/port"] == str(listens)
    prometheus = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}, "namespaceSelector": {}}
    rules = [
        rule
        for name, policy in OBJECTS.items()
        if name.startswith("NetworkPolicy/")
        and policy["spec"]["podSelector"].get("matchLabels") == PODS[pod]["metadata"]["labels"]
        for rule in policy["spec"].get("ingress", [])
    ]
    assert any(prometheus in rule.get("from", [prometheus]) and {"port": listens} in rule["ports"] for rule in rules)


def test_keda_scales_a_deployment_that_exists() -> None:
    """The schema of a ScaledObject, as far as ours uses it."""
    assert set(SCALED) == {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "advanced",
        "triggers",
    }
    assert f"Deployment/{SCALED['scaleTargetRef']['name']}" in OBJECTS
    assert "replicas" not in OBJECTS["Deployment/worker"]["spec"]
    assert 0 <= SCALED["minReplicaCount"] < SCALED["maxReplicaCount"]
    for trigger in SCALED["triggers"]:
        assert set(trigger) == {"type", "name", "metadata"} and trigger["type"] == "redis"
        assert set(trigger["metadata"]) == {"address", "listName", "listLength"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_keda_counts_queued_and_claimed_jobs_of_every_queue(store: Store, client: redis.Redis) -> None:
    for count, priority in enumerate(keys.Priority, 1):
        for _ in range(count):
            store.submit(seven(), priority=priority)

    def backlog() -> int:
        """As KEDA asks: a list for its length, a sorted set for its cardinality."""
        ask = {b"list": client.llen, b"zset": client.zcard, b"none": client.llen}
        names = {one["name"]: one["metadata"]["listName"] for one in SCALED["triggers"]}
        values = {name: ask[client.type(key)](key) for name, key in names.items()}
        formula = SCALED["advanced"]["scalingModifiers"]["formula"].split(" + ")
        return sum(values[name] for name in formula)

    assert backlog() == 6
    assert len(store.claim("w", keys.QUEUES, 4, "n")) == 4
    assert backlog() == 6


def test_redis_has_and_asks_for_the_memory_that_it_may_need() -> None:
    [container] = PODS["redis"]["spec"]["containers"]
    data = Settings(redis_maxmemory=container["command"][container["command"].index("--maxmemory") + 1])
    resources, gigabyte = container["resources"], 2**30
    limit = int(resources["limits"]["memory"].removesuffix("Gi")) * gigabyte
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert limit >= 1.5 * data.embedded_maxmemory() > 0
