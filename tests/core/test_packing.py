from typing import Any

import pytest
from pydantic import ValidationError

from reasonray.core.packing import bundles, fit_on_gpus, matches, no_room, selectors, shortage
from reasonray.core.sections import PoolConfig

KEYS = "pools.N.min_actors"
GIB = 2**30


def pool(**settings: Any) -> PoolConfig:
    return PoolConfig.model_validate({"stages": ["paint", "quality"], "max_actors": 9} | settings)


def machine(cpus: float = 8, gpus: float = 1) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": 8 * GIB}


def reason(pools: list[PoolConfig], machines: list[dict[str, float]]) -> str | None:
    total = {name: sum(each[name] for each in machines) for name in machine()}
    return no_room(pools, total, machines, KEYS)


def test_pools_that_find_room_have_no_reason_against_it() -> None:
    assert reason([pool(num_cpus=5)], [machine(8)]) is None
    assert reason([pool(num_cpus=2, num_gpus=0.5, min_actors=2)] * 2, [machine(8)] * 2) is None


def test_what_is_needed_is_added_up_with_what_ray_s_own_tasks_take() -> None:
    message = (
        "this recipe needs at least 8 CPUs and 2 GPUs, the cluster has 7 CPUs and 1 GPUs "
        "(pools: 2 x 2 CPUs and 1 GPUs, 1 x 2 CPUs; 2 CPUs to read and write); give the "
        "cluster more, or lower pools.N.min_actors"
    )
    pools = [pool(num_cpus=2, num_gpus=1, min_actors=2), pool(num_cpus=2)]
    assert reason(pools, [machine(7)]) == message
    free = {"CPU": 7.0, "GPU": 1.0, "memory": 8.0 * GIB}
    assert shortage(pools, free, KEYS, verb="has now free") == message.replace(
        "has", "has now free"
    )


def test_what_is_asked_of_a_cluster_is_one_bundle_a_process() -> None:
    pools = [pool(num_cpus=2, num_gpus=0.5, min_actors=2), pool(num_cpus=0, num_gpus=1)]
    assert bundles([*pools, pool(num_cpus=0)]) == [
        *[{"CPU": 2, "GPU": 0.5}] * 2,
        {"GPU": 1},
        *[{"CPU": 1}] * 2,
    ]


def test_each_bundle_has_the_labels_of_its_pool() -> None:
    pools = [pool(min_actors=2), pool(num_cpus=0), pool(label_selector={"size": "large"})]
    assert len(bundles(pools)) == len(selectors(pools))
    assert selectors(pools) == [{}, {}, {"size": "large"}, {}, {}]


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        ("large", ["large"]),
        ("!large", ["small", None]),
        ("in(large, small)", ["large", "small"]),
        ("in(large,small)", ["large", "small"]),
        ("!in(large, small)", [None]),
    ],
)
def test_labels_match_as_ray_matches_them(condition: str, values: list[str | None]) -> None:
    labels = {"large": {"size": "large"}, "small": {"size": "small"}, None: {"other": "large"}}
    assert [v for v in labels if matches(labels[v], {"size": condition})] == values
    assert pool(label_selector={"size": condition}).label_selector == {"size": condition}


@pytest.mark.parametrize("condition", ["", "-large", "in()", "not in(large)", "large, small"])
def test_a_condition_that_ray_would_refuse_is_refused(condition: str) -> None:
    with pytest.raises(ValidationError, match="label_selector"):
        pool(label_selector={"size": condition})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_cpus": 9}, "pool paint+quality needs 9 CPUs on one machine, the largest has 8"),
        ({"num_gpus": 2}, "pool paint+quality needs 2 GPUs on one machine, the largest has 1"),
    ],
)
def test_one_machine_must_hold_an_actor(settings: dict[str, float], message: str) -> None:
    assert reason([pool(**settings)], [machine(8), machine(8)]) == message


def test_gpus_that_are_enough_in_all_may_not_be_shared() -> None:
    found = reason([pool(num_cpus=0, num_gpus=0.6, min_actors=3)], [machine(gpus=1)] * 2)
    assert found == (
        "this recipe's actors cannot share the GPUs there are (pools: 3 x 0 CPUs and 0.6 GPUs; "
        "machines with 1, 1): a fraction lies on one GPU, several GPUs on one machine; lower "
        "pools.N.min_actors"
    )


@pytest.mark.parametrize(
    ("actors", "machines", "fits"),
    [
        ([0.6] * 3, [2], False),
        ([0.6, 0.6, 0.4, 0.4], [2], True),
        ([0.25, 0.5, 0.75, 0.5], [1, 1], True),
        ([2, 0.5], [1, 2], True),
        ([2], [1, 1], False),
        ([1, 0.1], [1], False),
        ([0.1] * 10 + [0], [1], True),
        ([0, 0], [0], True),
    ],
)
def test_gpus_are_shared_within_one_and_joined_within_a_machine(
    actors: list[float], machines: list[int], fits: bool
) -> None:
    assert fit_on_gpus(actors, machines) == fits
