"""KubeRay's own schemas, made strict: python tests/cluster/make_schemas.py KUBERAY_CHECKOUT

An API server drops fields that it does not know without a word; these refuse them. Left out are
descriptions, defaults, the status and rules in CEL.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "kuberay-v1.7.0.json.gz"

_LEFT_OUT = {"description", "default", "format", "x-kubernetes-validations"}


def strict(node: Any) -> Any:
    """A structural schema as a JSON schema in which an object has its properties and no others."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    schema: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            schema[key] = {name: strict(each) for name, each in value.items()}
        elif key not in _LEFT_OUT and not key.startswith("x-kubernetes-"):
            schema[key] = strict(value)
    if node.get("x-kubernetes-int-or-string"):
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    is_open = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if "properties" in schema and not is_open:
        schema["additionalProperties"] = False
    return schema


def main(checkout: Path) -> None:
    schemas = {}
    for file in sorted((checkout / "ray-operator/config/crd/bases").glob("ray.io_*.yaml")):
        crd = yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader)
        names = crd["spec"]["names"]
        if names["kind"] not in ("RayCluster", "RayJob", "RayService"):
            continue
        [version] = [each for each in crd["spec"]["versions"] if each["name"] == "v1"]
        schema = strict(version["schema"]["openAPIV3Schema"])
        del schema["properties"]["status"]
        schema["properties"]["metadata"] = {"type": "object"}
        schemas[names["kind"]] = schema
    text = json.dumps(schemas, separators=(",", ":"), sort_keys=True)
    SCHEMAS.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
