"""Real servers for the attacks: the embedded Valkey, and the system's Redis where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from attack.redis.ground import Ground, running


def available(product: str) -> None:
    """Skips the test where there is no such server."""
    if product != "redis":
        return
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server is installed: the attacks were run on the embedded Valkey alone")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)\.", said)
    if version is None or int(version[1]) < 7:
        pytest.skip(f"the redis-server that is installed is older than 7.0: {said.strip()}")


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of this module's tests."""
    available(request.param)
    with running(request.param) as url:
        yield url


@pytest.fixture(params=["valkey", "redis"])
async def fresh(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    """The stage on a server of the test's own: what one flood has piled up is no other's."""
    available(request.param)
    with running(request.param) as url:
        made = Ground(url)
        async with made.entered():
            yield made


@pytest.fixture
async def ground(server_url: str) -> AsyncIterator[Ground]:
    """The stage, with all that is opened on it closed afterwards."""
    made = Ground(server_url)
    async with made.entered():
        yield made
