"""An OCI image run by crun, Podman's runtime: the image's own command and environment, on the lab's bridge."""

from __future__ import annotations

import json
from pathlib import Path

from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.ostree import private_mounts
from centralita.lab import netns

# Podman's default ones, and what systemd's sandboxes and networkd need beyond them.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE",
)  # fmt: skip


def bundle(archive: Path, folder: Path, space: str, seed: Path) -> None:
    """Make a bundle (runtime-spec 1.0) of an image in one layer: its root, and how it is to be run."""
    layout, root = folder / "layout", folder / "rootfs"
    for made in (layout, root):
        made.mkdir()
    run(["tar", "-C", layout, "-xf", archive])

    def blob(digest: str) -> Path:
        return layout / "blobs/sha256" / digest.removeprefix("sha256:")

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    image = json.loads(blob(manifest["config"]["digest"]).read_text())["config"]
    run(["tar", "-C", root, "--numeric-owner", "-xpzf", blob(manifest["layers"][0]["digest"])])
    capabilities = [f"CAP_{name}" for name in CAPABILITIES]
    safe = ["nosuid", "noexec", "nodev"]
    mounts = (
        ("/proc", "proc", ["nosuid"]), ("/dev", "tmpfs", ["nosuid", "mode=755"]),
        ("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666", "mode=0620"]), ("/dev/shm", "tmpfs", ["mode=1777"]),
        ("/sys", "sysfs", [*safe, "ro"]), ("/sys/fs/cgroup", "cgroup", [*safe, "rw"]), ("/run", "tmpfs", ["mode=755"]),
    )  # fmt: skip
    shared = {"destination": "/pbx-tenant", "type": "bind", "source": str(seed), "options": ["rbind", "ro"]}
    spaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    config = {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": image["Cmd"],
            "env": image["Env"],
            "cwd": "/",
            "capabilities": {name: capabilities for name in ("bounding", "effective", "permitted")},
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            *({"destination": at, "type": kind, "source": kind, "options": options} for at, kind, options in mounts),
            shared,
        ],
        "linux": {"namespaces": [*spaces, {"type": "network", "path": str(netns.NETNS_DIR / space)}]},
    }
    (folder / "config.json").write_text(json.dumps(config))


def crun_argv(folder: Path, name: str) -> list[str]:
    """Return what runs the bundle in *folder*."""
    private = private_mounts()
    if not private:
        raise CentralitaError("crun cannot run here: / is no mount point", hint="run it outside of the chroot")
    prepare = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    crun = ["crun", "--root", str(folder / "state"), "--cgroup-manager=cgroupfs", "run", "--bundle", str(folder), name]
    return [*private, "sh", "-ec", prepare, "sh", *crun]
