"""Ray is joined or started, or one line says why not."""

from pathlib import Path

import pytest
from toy_runs import start

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8265", "10.255.255.1", "ray://nowhere.invalid:10001", "127.0.0.1:9"],
)
def test_an_address_without_a_cluster_is_named_with_the_right_form(
    tmp_path: Path, address: str
) -> None:
    driver = start(tmp_path / "out", 1, 0.0, RAY_ADDRESS=address)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2, errors
    said = [f"connecting to Ray at {address}", f"RAY_ADDRESS={address}: no cluster answers there"]
    assert [line[: len(each)] for line, each in zip(errors.splitlines(), said, strict=True)] == said
    assert "expected HOST:PORT" in errors


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    driver = start(tmp_path / "out", 1, 0.0, RAY_ADDRESS="", RAY_TMPDIR="/dev/null/ray")
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1, errors
    [line] = errors.splitlines()
    assert line.startswith("Ray did not start on this machine (")
    assert "/dev/null" in line
