"""`invoke seed`: a tenant's medium for an image that takes it at its first boot."""

from __future__ import annotations

from pathlib import Path

from centralita.clone.identity import IdentityStore
from centralita.clone.seed import LABEL, write_seed
from centralita.ground.report import get_reporter
from centralita.spec.tenant import load_tenant


def seed(tenant: str, to: str) -> Path:
    """Write the medium of a tenant's file; returns its path. The identity comes from the store, as a clone's does."""
    loaded = load_tenant(Path(tenant))
    target = Path(to or f"{loaded.name}-seed.iso")
    write_seed(loaded, IdentityStore().get_or_create(loaded), target)
    kind = {".iso": "disc", ".img": "disk"}.get(target.suffix, "folder")
    address = loaded.network.address
    get_reporter().summary(
        f"a {kind} for {loaded.name}",
        {
            kind: str(target),
            "use": "bind it at /pbx-tenant of the container" if kind == "folder" else f"attach it ({LABEL}) and boot",
            "address": "DHCP" if address is None else str(address.ip),
            "secret": "it holds keys and passwords: take it away, and keep it from others, when it was read",
        },
    )
    return target
