"""That KubeRay takes what stands in cluster/kuberay, and that it is enough for what runs there."""

import copy
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from manifests import (
    APPS,
    KUBERAY,
    Manifest,
    cluster_of,
    composed,
    faults,
    groups,
    machines,
    pods,
    read,
    schemas,
    served_language_model,
    settings,
)
from one_cluster import ROOT

from reasonray.cli.main import cli
from reasonray.core import recipe as recipes
from reasonray.core.packing import no_room
from reasonray.core.sections import PoolConfig
from reasonray.core.version import __version__

JOBS = ("generate", "features", "train")
SECRETS = {"reasonray-secrets", "reasonray-keys", "valkey"}
"""That docs/cluster.md has a user make."""


@pytest.mark.parametrize("app", APPS)
def test_every_field_is_one_of_kuberay(app: str) -> None:
    assert faults(read(app)) == []


@pytest.mark.parametrize("app", APPS)
def test_what_kustomize_makes_of_it_is_so_too(app: str) -> None:
    resources = composed(app)
    assert len({(each["kind"], each["metadata"]["name"]) for each in resources}) == len(resources)
    assert {each["metadata"]["namespace"] for each in resources} == {"reasonray"}
    [rays] = [each for each in resources if each["kind"].startswith("Ray")]
    assert faults(rays) == []
    config = {each["metadata"]["name"] for each in resources if each["kind"] == "ConfigMap"}
    for pod in pods(rays):
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["image"] == f"registry.example/reasonray:{__version__}"
            sources = {kind: name for each in container["envFrom"] for kind, name in each.items()}
            assert {sources["configMapRef"]["name"]} == config
            assert sources["secretRef"] == {"name": "reasonray-secrets", "optional": True}
        for volume in pod["volumes"]:
            assert volume.get("secret", {}).get("secretName", "valkey") in SECRETS


def container(manifest: Manifest, group: int = 0) -> dict[str, Any]:
    first: dict[str, Any] = groups(manifest)[group]["template"]["spec"]["containers"][0]
    return first


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda job: job["spec"].update(shutdownAfterJobFinish=True), "$.spec"),
        (lambda job: job["spec"].update(backoffLimit="5"), "$.spec.backoffLimit"),
        (lambda job: groups(job)[0].update(maxReplica=3), "workerGroupSpecs[0]"),
        (lambda job: groups(job)[0].pop("maxReplicas"), "workerGroupSpecs[0]"),
        (lambda job: container(job).update(imagePullPolicyy="Always"), "containers[0]"),
        (lambda job: container(job).update(env=[{"nam": "X"}]), "env[0]"),
        (lambda job: container(job)["resources"].update(limit={}), "resources"),
        (lambda job: cluster_of(job)["autoscalerOptions"].update(version="v3"), "version"),
        (lambda job: cluster_of(job)["authOptions"].update(mode="tokens"), "mode"),
        (
            lambda job: cluster_of(job)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            "rayStartParams",
        ),
        (lambda job: cluster_of(job).update(gcsFaultTolerance={}), "rayClusterSpec"),
    ],
)
def test_a_slip_is_caught(change: Callable[[Manifest], None], at: str) -> None:
    job = copy.deepcopy(read("generate"))
    change(job)
    assert [fault for fault in faults(job) if at in fault.partition(": ")[0]]


@pytest.mark.parametrize("app", APPS)
def test_the_operator_s_own_rules_hold(app: str) -> None:
    """Those of its validation.go that concern what is used here."""
    manifest = read(app)
    spec, cluster = manifest["spec"], cluster_of(manifest)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", manifest["metadata"]["name"])
    assert spec.get("ttlSecondsAfterFinished", 0) == 0 or spec["shutdownAfterJobFinishes"]
    scales = cluster.get("enableInTreeAutoscaling", False)
    assert scales or "autoscalerOptions" not in cluster
    for group in groups(manifest):
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert not group.get("priority") or scales
    # Autoscaler v2 starts pods itself.
    assert not any("restartPolicy" in pod for pod in pods(manifest))
    # KubeRay keeps a cluster's token in a secret that bears the cluster's name.
    assert manifest["metadata"]["name"] not in SECRETS
    # Without autoscaler nothing changes what is asked for at first.
    if not scales:
        assert all(each["minReplicas"] == each["maxReplicas"] for each in groups(manifest))


@pytest.mark.parametrize("app", APPS)
def test_versions_stand_everywhere_alike(app: str) -> None:
    [ray] = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster_of(read(app))["rayVersion"] == ray
    settings = yaml.safe_load((KUBERAY / "settings" / "kustomization.yaml").read_text())
    [image] = settings["images"]
    assert str(image["newTag"]) == __version__
    for pod in pods(read(app)):
        for each in (*pod["containers"], *pod.get("initContainers", [])):
            assert each["image"] == image["name"]


@pytest.mark.parametrize("app", APPS)
def test_every_pod_is_nobody_and_has_shared_memory(app: str) -> None:
    for pod in pods(read(app)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000  # the Dockerfile's
        [memory] = [each for each in pod["volumes"] if each["name"] == "shm"]
        assert memory["emptyDir"]["medium"] == "Memory"
        for each in (*pod["containers"], *pod.get("initContainers", [])):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert {"configMapRef": {"name": "reasonray-settings"}} in each["envFrom"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]


def test_a_port_has_one_name_and_a_name_one_port() -> None:
    numbers: dict[str, set[int]] = defaultdict(set)
    for app in APPS:
        for pod in pods(read(app)):
            ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
            assert "metrics" in ports
            for name, number in ports.items():
                numbers[name].add(number)
    assert numbers == {
        "gcs-server": {6379}, "dashboard": {8265}, "client": {10001}, "metrics": {8080},
        "serve": {8000},
    }  # fmt: skip


def as_on_the_head(entrypoint: str, environment: dict[str, str], folder: Path) -> list[str]:
    """The words that `python` gets, after the submitter's bash, `ray job submit` and the head's sh.

    KubeRay puts the entrypoint into a line for bash, in a pod without the settings; Ray's command
    line joins the words again; the head's shell has the settings.
    """
    plain = {"PATH": f"{folder}:{os.environ['PATH']}"}
    submit = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    words = subprocess.check_output(["bash", "-ce", "--", f"{submit} {entrypoint} ;"], env=plain)
    stub = folder / "python"
    stub.write_text(f'#!/bin/sh\nexec {submit} "$@"\n')
    stub.chmod(0o755)
    line = shlex.join(json.loads(words))
    told = subprocess.check_output(line, shell=True, env={**environment, **plain})
    arguments: list[str] = json.loads(told)
    return arguments


@pytest.mark.parametrize("app", JOBS)
def test_an_entrypoint_is_understood_by_the_command_line(app: str, tmp_path: Path) -> None:
    script, *arguments = as_on_the_head(read(app)["spec"]["entrypoint"], settings(), tmp_path)
    assert script == f"/app/jobs/{app}.py"
    assert (ROOT / script.removeprefix("/app/")).exists()
    understood(app, arguments)


def test_the_other_lines_of_the_settings_are_understood_too(tmp_path: Path) -> None:
    text = (KUBERAY / "settings" / "settings.env").read_text("utf-8")
    others = re.findall(r"^#(GENERATE=.*)$", text, re.MULTILINE)
    assert others
    for line in others:
        words = shlex.split(line.partition("=")[2])
        assert understood("generate", words)["recipe"] == "paper"
        model = served_language_model()["model_loading_config"]["model_id"]
        assert f"language_model.model.name={model}" in words
        address = "language_model.server.base_url=http://language-model-serve-svc:8000/v1"
        assert address in words
        assert read("language-model")["metadata"]["name"] == "language-model"


def understood(command: str, arguments: list[str]) -> dict[str, Any]:
    """What our own parser makes of them."""
    parser = cli.commands[command]
    with click.Context(cli, info_name="reasonray", obj=True) as context:
        return parser.make_context(command, list(arguments), parent=context).params


def needed(pools: list[PoolConfig], key: str) -> list[PoolConfig]:
    """The pools, each with as many actors as it may have."""
    return [each.model_copy(update={"min_actors": getattr(each, key)}) for each in pools]


@pytest.mark.parametrize("name", ["current", "paper"])
@pytest.mark.parametrize(
    ("replicas", "actors"), [("minReplicas", "min_actors"), ("maxReplicas", "max_actors")]
)
def test_the_workers_hold_the_recipes_actors(name: str, replicas: str, actors: str) -> None:
    there = machines(read("generate"), replicas)
    total = {key: sum(each.get(key, 0) for each in there) for key in ("CPU", "GPU", "memory")}
    assert no_room(needed(recipes.load(name).pools, actors), total, there, "pools") is None
    # With a worker less of those with GPUs they would not find room: none is for nothing.
    if (name, replicas) == ("current", "minReplicas"):
        fewer = there[:-1]
        total = {key: sum(each.get(key, 0) for each in fewer) for key in total}
        assert no_room(needed(recipes.load(name).pools, actors), total, fewer, "pools")


def test_a_cluster_that_stays_may_grow_to_each_recipe() -> None:
    there = machines(read("cluster"), "maxReplicas")
    total = {key: sum(each.get(key, 0) for each in there) for key in ("CPU", "GPU", "memory")}
    for name in ("current", "paper", "mini"):
        pools = needed(recipes.load(name).pools, "max_actors")
        assert no_room(pools, total, there, "pools") is None


@pytest.mark.parametrize("app", ["features", "train"])
def test_a_training_divides_its_batch_by_the_workers(app: str) -> None:
    name = settings()[app.upper()].split()[0]
    editor = recipes.load(name).editor
    num_gpus = sum(each.get("GPU", 0) for each in machines(read(app), "minReplicas"))
    workers, actors = editor.machines.processes(num_gpus, editor.batch_size)
    assert workers == actors == num_gpus


@pytest.mark.parametrize("app", APPS)
def test_labels_for_ray_are_those_of_the_nodes(app: str) -> None:
    for group in groups(read(app)):
        pod, labels = group["template"]["spec"], group.get("labels", {})
        selector = pod.get("nodeSelector", {})
        has_gpu = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        assert has_gpu == ("reasonray/gpu" in selector) == ("gpu" in group["groupName"])
        assert labels.get("reasonray/gpu") == selector.get("reasonray/gpu")
        is_spot = group["groupName"].endswith("-spot")
        assert is_spot == ("reasonray/spot" in selector)
        assert is_spot == (labels.get("ray.io/market-type") == "spot")
        tolerated = {each["key"] for each in pod.get("tolerations", [])}
        assert ("nvidia.com/gpu" in tolerated) == has_gpu
        assert ("reasonray/spot" in tolerated) == is_spot


def test_all_that_a_user_changes_stands_in_the_settings(tmp_path: Path) -> None:
    mine = Path(shutil.copytree(KUBERAY, tmp_path / "kuberay"))
    for file, (old, new) in itertools.product(
        (mine / "settings").iterdir(),
        (("my-bucket", "ours"), ("registry.example/reasonray", "r.io/x"), ("0.1.0", "7")),
    ):
        file.write_text(file.read_text().replace(old, new))
    for app in APPS:
        resources = composed(app, mine)
        text = json.dumps(resources)
        assert "my-bucket" not in text
        assert "s3://ours/dataset" in text
        assert "r.io/x:7" in text
        assert "registry.example" not in text
        # Other settings are other pods, so that a RayService makes a new cluster of them.
        assert set(settings_names(resources)) & set(settings_names(composed(app))) == set()


def settings_names(resources: list[Manifest]) -> list[str]:
    """The ConfigMap's name, wherever it stands."""
    return re.findall(r"reasonray-settings[\w-]*", json.dumps(resources))


def test_the_store_of_heads_is_where_they_look_for_it() -> None:
    service, store = yaml.safe_load_all((KUBERAY / "valkey" / "valkey.yaml").read_text("utf-8"))
    [port] = service["spec"]["ports"]
    address = f"{service['metadata']['name']}:{port['port']}"
    pod = store["spec"]["template"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert store["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    [valkey] = pod["spec"]["containers"]
    password = valkey["env"][0]["valueFrom"]
    for app in ("editor", "language-model", "cluster"):
        options = cluster_of(read(app))["gcsFaultToleranceOptions"]
        assert options["redisAddress"] == address
        assert options["redisPassword"]["valueFrom"] == password
    # A pod is a pod: KubeRay's schema has the whole of Kubernetes' for it.
    template = schemas()["RayCluster"]["properties"]["spec"]["properties"]["headGroupSpec"]
    job = copy.deepcopy(read("cluster"))
    cluster_of(job)["headGroupSpec"]["template"] = {"spec": pod["spec"]}
    assert "template" in template["properties"]
    assert faults(job) == []
