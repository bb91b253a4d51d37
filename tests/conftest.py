from collections.abc import Iterator

import pytest
from lying_server import LyingServer


@pytest.fixture
def lying_server() -> Iterator[LyingServer]:
    server = LyingServer()
    yield server
    server.close()
