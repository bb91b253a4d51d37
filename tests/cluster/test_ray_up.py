"""cluster/ray-up, through the checks that `ray up` makes before it reaches for a cloud."""

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml
from one_cluster import ROOT

from reasonray.core import recipe as recipes
from reasonray.core.packing import no_room
from reasonray.core.version import __version__

CLOUDS = ("aws", "gcp")

pytestmark = pytest.mark.filterwarnings("default")


def read(cloud: str) -> dict[str, Any]:
    text = (ROOT / "cluster" / "ray-up" / f"{cloud}.yaml").read_text("utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    with_defaults: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(with_defaults)
    return with_defaults


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_launcher_takes_it_and_installs_nothing(cloud: str) -> None:
    config = prepared(read(cloud))
    for when in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert config[when] == []
    assert config["docker"]["image"] == f"registry.example/reasonray:{__version__}"


@pytest.mark.parametrize(
    "slip",
    [
        lambda config: config.update(max_worker=3),
        lambda config: config.update(head_node_type="heads"),
        lambda config: config["available_node_types"]["cpu"].update(min_worker=1),
        lambda config: config["docker"].update(images="x"),
    ],
)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_slip_is_caught(cloud: str, slip: Callable[[dict[str, Any]], None]) -> None:
    config = read(cloud)
    slip(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        prepared(config)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_it_may_grow_to_each_recipe(cloud: str) -> None:
    config = prepared(read(cloud))
    kinds = config["available_node_types"]
    there = [
        {**kind["resources"], "memory": 2**35}
        for name, kind in kinds.items()
        if name != "head"
        for _ in range(kind["max_workers"])
    ]
    assert len(there) <= config["max_workers"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert all(kind.get("min_workers", 0) == 0 for kind in kinds.values())
    total = {key: sum(each.get(key, 0) for each in there) for key in ("CPU", "GPU", "memory")}
    for name in ("current", "paper", "mini"):
        pools = [
            pool.model_copy(update={"min_actors": pool.max_actors})
            for pool in recipes.load(name).pools
        ]
        assert no_room(pools, total, there, "pools") is None


@pytest.mark.parametrize("cloud", CLOUDS)
def test_kinds_of_machines_and_ports_are_those_of_kubernetes(cloud: str) -> None:
    config = read(cloud)
    kinds = config["available_node_types"]
    assert kinds.keys() == {"head", "cpu", "small-gpu", "large-gpu"}
    for name in ("small-gpu", "large-gpu"):
        assert kinds[name]["labels"] == {
            "reasonray/gpu": name.partition("-")[0], "ray.io/market-type": "spot",
        }  # fmt: skip
    for starts in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "--metrics-export-port=8080" in starts[-1]
    head = config["head_start_ray_commands"][-1]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    # Whoever reaches the ports needs the token.
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
