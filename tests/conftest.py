import os
import uuid
from collections.abc import Generator, Iterator

import hypothesis
import object_store
import one_cluster
import pytest
from lying_server import LyingServer

# Tiny models gain nothing from a second thread, and two threads that wait for each other on a busy
# machine lose much. Torch reads it when it is imported; processes that are started inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

MAY_BE_SKIPPED = (
    "needs vLLM",
    "needs Chromium",
    "needs root",
    "needs a file system",
    "needs kubectl",
    "needs promtool",
)
"""How the reasons begin for which a test may be skipped; CONTRIBUTING.md says how each is run."""


@pytest.fixture
def lying_server() -> Iterator[LyingServer]:
    server = LyingServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def store() -> Iterator[object_store.Store]:
    """One S3 server for all tests."""
    with object_store.started() as store:
        yield store


@pytest.fixture
def bucket(store: object_store.Store) -> str:
    """The URI of a place on it where nothing is."""
    return f"s3://{object_store.BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def cluster(store: object_store.Store) -> Iterator[one_cluster.Cluster]:
    """One Ray for all tests that need not kill it; its processes reach the store, too."""
    with one_cluster.started() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray_session(cluster: one_cluster.Cluster) -> Iterator[None]:
    """This process as a driver of the cluster."""
    import ray

    ray.init(address=cluster.address)
    yield
    ray.shutdown()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with Ray come last: it lives until the session's end, and the others mind warnings."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped_silently(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped_silently(report)
    return report


def fail_if_skipped_silently(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A test that is skipped for a reason that is not in `MAY_BE_SKIPPED` has failed."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"skipped, which conftest.py does not allow: {reason}"
