"""The whole pipeline on a real Ray, with the toy stages: what is lost, doubled or hangs."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_cluster import NUM_CPUS, Cluster
from toy_runs import assert_same, num_committed, published, start
from toy_stages import Build, Plan, recipe, sequential

from reasonray.core.errors import RunError, UserError
from reasonray.dataset.manifest import read_manifest
from reasonray.generation.run import run
from reasonray.sources import sampling

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


def test_a_run_equals_the_plain_loop(ray_session: None, tmp_path: Path) -> None:
    plan = Plan(20)
    made = run(recipe(), tmp_path / "out", build=Build(), plan=plan)
    assert (made.inputs, made.rejections["divergence"]) == (60, {"unchanged": 2})
    assert made.divergence_threshold is not None
    assert made.stages["paint"].rows == 40
    assert_same(tmp_path / "out", plan, Build())
    assert not (tmp_path / "out/.run").exists()


@pytest.mark.parametrize(("batch_size", "num_actors"), [(1, 1), (8, 2)])
def test_batch_and_pool_sizes_change_nothing(
    ray_session: None, tmp_path: Path, batch_size: int, num_actors: int
) -> None:
    content = recipe().model_dump()
    for pool in content["pools"]:
        pool |= {"batch_size": batch_size, "min_actors": num_actors, "max_actors": num_actors}
        pool["num_cpus"] = 0.5
    plan = Plan(10)
    run(recipe(pools=content["pools"]), tmp_path / "out", build=Build(), plan=plan)
    assert_same(tmp_path / "out", plan, Build())


def test_rows_that_wait_for_a_server_side_by_side_come_to_the_same(
    ray_session: None, tmp_path: Path
) -> None:
    # Ray is what makes many calls of one actor, and blocks of few rows.
    names = [name for pool in recipe().pools for name in pool.stages]
    groups = [names[:2], ["rewrite", "select"], names[4:7], ["propose"], names[8:]]
    pools = [{"stages": group, "batch_size": 4, "num_cpus": 0.25} for group in groups]
    made, plan = recipe(pools=pools), Plan(20)
    assert [made.num_calls(pool) for pool in made.pools] == [1, 16, 1, 16, 1]
    run(made, tmp_path / "out", build=Build(0.01), plan=plan)
    assert_same(tmp_path / "out", plan, Build(), pools=pools)


def test_a_row_that_kills_its_process_is_rejected_alone(ray_session: None, tmp_path: Path) -> None:
    made = run(
        recipe(parts=["II"]),
        tmp_path / "out",
        build=Build(),
        plan=Plan(20, ((4, "poison"), (5, "poison"), (6, "wrong"))),
    )
    assert made.inputs == 20
    assert made.rejections == {
        "paint": {"crashed": 2, "error": 1},
        "quality": {"target_missing": 4},
    }
    crashed = [
        i for i, row in published(tmp_path / "out").items() if row.get("reason") == "crashed"
    ]
    assert crashed == ["II/toy/0004/0", "II/toy/0005/0"]


def test_a_pair_that_kills_its_process_is_left_out_of_the_ranking(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(20, ((4, "poison"),), captioned="I")
    made = run(recipe(parts=["I"], variations=2), tmp_path / "out", build=Build(), plan=plan)
    assert made.rejections == {"divergence": {"unchanged": 2}, "load": {"crashed": 2}}
    assert "out: measuring how far the images of 20 pairs differ" in capsys.readouterr().err


def test_a_failure_outside_the_rows_stops_the_run_which_goes_on_later(
    ray_session: None, tmp_path: Path
) -> None:
    made = recipe(parts=["II"])
    with pytest.raises(RunError, match=r"^the server is gone; start it and run the same .* again$"):
        # Slow enough that the first blocks are committed before the last one fails.
        run(made, tmp_path / "out", build=Build(0.1), plan=Plan(40, ((0, "fails"), (39, "outage"))))
    assert 0 < num_committed(tmp_path / "out") < 40
    with pytest.raises(RunError, match="the server is gone"):
        run(made, tmp_path / "out", build=Build(), plan=Plan(40))
    # The server is back: the row no longer fails.
    run(made, tmp_path / "out", build=Build(outages=False), plan=Plan(40))
    assert_same(tmp_path / "out", Plan(40), Build(), parts=["II"])


def test_a_run_to_so_many_samples_is_the_same_stopped_or_not_and_however_batched(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, object] = {"parts": ["II", "III"], "accepted": 20}
    made = run(recipe(**changes), tmp_path / "a", build=Build(), plan=Plan(40))
    assert made.accepted == 20
    assert made.rejected == made.rejections["quality"]["target_missing"] >= 1
    assert made.inputs == 20 + made.rejected < 80
    assert "of 20 samples after 20 rows, going on with" in capsys.readouterr().err
    # The prefix of an order that has nothing to do with the run.
    rows = sequential(recipe(**changes), Build(), Plan(40))
    keys = [(f"{row['part']}/toy", row_id) for row_id, row in rows.items()]
    order = [list(rows)[index] for index in sampling.order(keys, 7)]
    done = published(tmp_path / "a")
    assert done.keys() == set(order[: made.inputs])
    assert done[order[made.inputs - 1]]["kind"] == "accepted"

    late = next(row_id for row_id in order[20 : made.inputs] if row_id.startswith("II/"))
    plan = Plan(40, ((int(late.split("/")[2]), "outage"),))
    small = recipe(**changes, output={"block_rows": 3})
    with pytest.raises(RunError, match="the server is gone"):
        run(small, tmp_path / "b", build=Build(), plan=plan)
    again = run(small, tmp_path / "b", build=Build(outages=False), plan=plan)
    assert (again.inputs, again.accepted) == (made.inputs, 20)
    assert [
        (row_id, row["kind"], row["edited_image"])
        for row_id, row in sorted(published(tmp_path / "b").items())
    ] == [(row_id, row["kind"], row["edited_image"]) for row_id, row in sorted(done.items())]

    few = run(recipe(parts=["II"], accepted=9), tmp_path / "c", build=Build(), plan=Plan(10))
    assert (few.inputs, few.accepted) == (10, 8)
    assert few.warnings == ["all inputs are done, 8 of the 9 samples are made"]


def test_what_only_other_parts_need_is_neither_started_nor_counted(
    ray_session: None, tmp_path: Path
) -> None:
    content = recipe().model_dump()
    names = [name for pool in content["pools"] for name in pool["stages"]]
    content["pools"] = [
        {"stages": names[:4]},
        {"stages": names[4:-1], "num_gpus": 4},
        {"stages": names[-1:]},
    ]
    made = recipe(pools=content["pools"], parts=["I"])
    done = run(made, tmp_path / "out", build=Build(broken="paint"), plan=Plan(10))
    assert (done.inputs, done.rejections) == (10, {"divergence": {"unchanged": 1}})
    assert done.stages.keys() == {"load", "divergence", "rewrite", "select", "quality"}


def test_a_stage_that_cannot_be_loaded_ends_the_run_at_once(
    ray_session: None, tmp_path: Path
) -> None:
    build = Build(broken="paint")
    with pytest.raises(RunError, match=r"^stage paint: could not be loaded: RuntimeError: no wei"):
        run(recipe(), tmp_path / "out", build=build, plan=Plan(3))


def test_an_actor_sees_gpus_only_if_its_pool_has_some(ray_session: None, tmp_path: Path) -> None:
    content = recipe().model_dump()
    content["pools"][1]["num_gpus"] = 0.5
    watched = recipe(pools=content["pools"], parts=["II"])
    run(watched, tmp_path / "out", build=Build(), plan=Plan(1, ((0, "gpus"),)))
    [row] = published(tmp_path / "out").values()
    assert row["instruction"] == "sees GPUs ''"
    assert row["edited_caption"] in ("sees GPUs '0'", "sees GPUs '1'")


def test_a_cluster_too_small_is_refused_before_the_start_and_before_a_resume(
    ray_session: None, tmp_path: Path
) -> None:
    content = recipe().model_dump()
    content["pools"][1] |= {"min_actors": 6, "max_actors": 6}
    large = recipe(pools=content["pools"])
    wanted = f"needs at least 9 CPUs, the cluster has {NUM_CPUS} CPUs"
    plan = Plan(3, ((2, "outage"),))
    with pytest.raises(UserError, match=wanted):
        run(large, tmp_path / "out", build=Build(), plan=plan)
    with pytest.raises(RunError, match="the server is gone"):
        run(recipe(), tmp_path / "out", build=Build(), plan=plan)
    with pytest.raises(UserError, match=wanted):
        run(large, tmp_path / "out", build=Build(), plan=plan)


def test_another_recipe_is_refused_with_the_keys_that_differ(
    ray_session: None, tmp_path: Path
) -> None:
    run(recipe(), tmp_path / "out", build=Build(), plan=Plan(3))
    for changes, key in (({"seed": 8}, "seed"), ({"limit": 2}, "limit"), ({"sources": []}, "sou")):
        with pytest.raises(UserError, match=f"another recipe; different: {key}"):
            run(recipe(**changes), tmp_path / "out", build=Build(), plan=Plan(3))
    content = recipe().model_dump()
    content["pools"][0]["batch_size"] = 2
    again = run(recipe(pools=content["pools"]), tmp_path / "out", build=Build(), plan=Plan(3))
    assert again == read_manifest(tmp_path / "out")


def kill_at(driver: "subprocess.Popen[str]", output: Path, rows: int, deadline_s: float) -> int:
    """SIGKILL as soon as so many rows are committed; gives how many were."""
    deadline = time.monotonic() + deadline_s
    while (count := num_committed(output)) < rows or not (output / ".run/planned.json").exists():
        if driver.poll() is not None:
            pytest.fail(f"the run ended before {rows} rows: {driver.communicate()[1]}")
        if time.monotonic() > deadline:
            driver.kill()
            pytest.fail(f"{count} of {rows} rows after {deadline_s} s")
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    return count


def environment(ray: str, cluster: Cluster) -> dict[str, str]:
    """Of a driver that joins the cluster, or starts a Ray as on a laptop."""
    return {"RAY_ADDRESS": cluster.address} if ray == "cluster" else {}


@pytest.mark.nightly  # as on a store, in test_torture.py
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("ray", "kills"),
    [
        ("own", ["between"]),
        ("cluster", ["first", "between", "last"]),
        ("own", ["first", *["between"] * 3, "last"]),
    ],
    ids=["once, with its own Ray", "three times", "five times, with its own Ray"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    cluster: Cluster, tmp_path: Path, ray: str, kills: list[str]
) -> None:
    output, num, delay = tmp_path / "out", 24, 0.05
    total, where = 3 * num, environment(ray, cluster)
    # Before the first block, between two, and within the last block.
    rows_before = {
        "first": [0],
        "between": sorted(random.sample(range(8, total - 16), kills.count("between"))),
        "last": [total - 8],
    }
    for kill in kills:
        driver = start(output, num, delay, **where)
        assert kill_at(driver, output, rows_before[kill].pop(0), 120) < total
    last = start(output, num, 0.0, **where)
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    assert f"of {total} rows are done" in errors
    assert_same(output, Plan(num), Build())
    again = start(output, num, 0.0)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "nothing to do" in errors
    made = read_manifest(output)
    assert made is not None
    # What was in flight was done again, no more: four blocks of eight for each kill at most.
    assert made.stages["load"].rows <= total + len(kills) * 32


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kills", [[20], [0, 8, 20, 20]], ids=["before more are planned", "four times"]
)
def test_a_killed_run_to_so_many_samples_gives_just_those(
    cluster: Cluster, tmp_path: Path, kills: list[int]
) -> None:
    # Ray is what is killed: its driver, whose actors must not commit what is done again.
    plain, output, num, accepted = tmp_path / "plain", tmp_path / "out", 24, ("--accepted", "20")
    where = environment("cluster", cluster)
    for kill in kills:
        driver = start(output, num, 0.05, *accepted, **where)
        kill_at(driver, output, kill, 120)
    for folder in (output, plain):
        driver = start(folder, num, 0.0, *accepted, **where)
        _, errors = driver.communicate(timeout=120)
        assert driver.returncode == 0, errors
    made = read_manifest(output)
    assert made is not None
    assert (made.accepted, made.inputs) == (20, 20 + made.rejected)
    assert published(output) == published(plain)


@pytest.mark.nightly  # as on a store, in test_torture.py
def test_two_runs_at_once_end_with_the_second_saying_so(cluster: Cluster, tmp_path: Path) -> None:
    first = start(tmp_path / "out", 8, 0.05, RAY_ADDRESS=cluster.address)
    while not (tmp_path / "out/.run/planned.json").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = start(tmp_path / "out", 8, 0.05, RAY_ADDRESS=cluster.address)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"another run is writing here (process {first.pid} on" in errors
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors


@pytest.mark.nightly  # as by `ray job stop`, in tests/jobs
@pytest.mark.parametrize("ray", ["cluster", "own"])
def test_sigterm_stops_cleanly_and_the_run_goes_on_later(
    cluster: Cluster, tmp_path: Path, ray: str
) -> None:
    output, where = tmp_path / "out", environment(ray, cluster)
    driver = start(output, 24, 0.05, **where)
    while num_committed(output) < 8:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.terminate()
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "stopped by SIGTERM" in errors
    assert "Traceback" not in errors
    last = start(output, 24, 0.0, **where)
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    assert_same(output, Plan(24), Build())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(place)]
    if shutil.which("mount") is None:
        pytest.skip("needs root and the command mount, for a small disk")
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs root, for a small disk: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_says_so_and_nothing_is_lost_once_there_is_space(
    ray_session: None, small_disk: Path
) -> None:
    output, plan = small_disk / "out", Plan(40)
    with pytest.raises(RunError, match="no space left; free some, finished rows are kept"):
        run(recipe(), output, build=Build(), plan=plan)
    larger = ["mount", "-o", "remount,size=64m", str(small_disk)]
    subprocess.run(larger, check=True)
    made = run(recipe(), output, build=Build(), plan=plan)
    assert made.inputs == 120
    assert_same(output, plan, Build())


def test_a_run_without_a_sample_is_not_finished_and_all_is_done_again(
    ray_session: None, tmp_path: Path
) -> None:
    plan = Plan(4, tuple((number, "fails") for number in range(4)))
    made, output = recipe(parts=["II"]), tmp_path / "out"
    words = r"none of 4 inputs became a sample \(paint error 4\), e\.g\. ValueError: the server"
    with pytest.raises(RunError, match=words):
        run(made, output, build=Build(), plan=plan)
    assert not (output / "manifest.json").exists()
    again = run(made, output, build=Build(outages=False), plan=plan)
    assert (again.accepted, again.rejections) == (3, {"quality": {"target_missing": 1}})
