from collections.abc import Iterator

import hypothesis
import pytest
from lying_server import LyingServer

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def lying_server() -> Iterator[LyingServer]:
    server = LyingServer()
    yield server
    server.close()
