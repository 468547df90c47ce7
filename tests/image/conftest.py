"""Looking inside the shared clone, by testinfra over SSH."""

from __future__ import annotations

import pytest
import testinfra
import testinfra.host

from tests.conftest import Pbx


@pytest.fixture(scope="session")
def host(pbx: Pbx) -> testinfra.host.Host:
    """The shared clone as testinfra sees it."""
    # ControlMaster and the way into the lab's namespace are in the configuration.
    return testinfra.get_host(f"ssh://{pbx.guest.ssh.host}", ssh_config=str(pbx.guest.ssh.config), timeout=60)
