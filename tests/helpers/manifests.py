"""What stands in cluster/kuberay: as it is, as kustomize composes it, and what it adds up to."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from one_cluster import ROOT

KUBERAY = ROOT / "cluster" / "kuberay"
APPS = ("generate", "features", "train", "editor", "language-model", "cluster")
SCHEMAS = ROOT / "tests" / "cluster" / "kuberay-v1.7.0.json.gz"

Manifest = dict[str, Any]

_UNITS = {"": 1, "m": 0.001, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def read(app: str) -> Manifest:
    """KubeRay's resource of one folder, as it stands there."""
    [file] = (KUBERAY / app).glob("ray*.yaml")
    manifest: Manifest = yaml.safe_load(file.read_text("utf-8"))
    return manifest


def composed(app: str, kuberay: Path = KUBERAY) -> list[Manifest]:
    """What `kubectl apply -k` sends."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", str(kuberay / app)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def settings() -> dict[str, str]:
    """Those of settings.env that are in force, as every pod has them."""
    text = (KUBERAY / "settings" / "settings.env").read_text("utf-8")
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


def cluster_of(manifest: Manifest) -> dict[str, Any]:
    """The spec of its RayCluster."""
    spec = manifest["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return cluster


def groups(manifest: Manifest) -> list[dict[str, Any]]:
    """The worker groups."""
    workers: list[dict[str, Any]] = cluster_of(manifest)["workerGroupSpecs"]
    return workers


def pods(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The spec of each kind of pod, of the head first."""
    for group in (cluster_of(manifest)["headGroupSpec"], *groups(manifest)):
        yield group["template"]["spec"]


def serve_config(app: str) -> dict[str, Any]:
    """What a RayService serves."""
    config: dict[str, Any] = yaml.safe_load(read(app)["spec"]["serveConfigV2"])
    return config


def served_language_model() -> dict[str, Any]:
    """The one `LLMConfig` of the folder language-model."""
    [app] = serve_config("language-model")["applications"]
    assert app["import_path"] == "ray.serve.llm:build_openai_app"
    [model] = app["args"]["llm_configs"]
    return dict(model)


def amount(quantity: str | int) -> float:
    """`500m`, `16Gi`, `4`."""
    match = re.fullmatch(r"([\d.]+)(m|Mi|Gi|Ti)?", str(quantity))
    assert match, quantity
    return float(match[1]) * _UNITS[match[2] or ""]


def machines(manifest: Manifest, replicas: str) -> list[dict[str, float]]:
    """What Ray counts of each worker, with `minReplicas` or `maxReplicas` of them."""
    names = {"cpu": "CPU", "memory": "memory", "nvidia.com/gpu": "GPU"}
    return [
        {
            names[name]: amount(quantity)
            for name, quantity in group["template"]["spec"]["containers"][0]["resources"][
                "limits"
            ].items()
            if name in names
        }
        for group in groups(manifest)
        for _ in range(group[replicas])
    ]


def schemas() -> dict[str, Any]:
    """Kind -> its strict schema, of tests/cluster/make_schemas.py."""
    everything: dict[str, Any] = json.loads(gzip.decompress(SCHEMAS.read_bytes()))
    return everything


def faults(manifest: Manifest) -> list[str]:
    """Where it is not what KubeRay takes; none if all is well."""
    validator = jsonschema.Draft7Validator(schemas()[manifest["kind"]])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
