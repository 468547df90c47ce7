"""A release of the golden image, served over HTTPS to the clients of others: Incus, virt-builder, skopeo, qemu-img.

`virt-builder --list` and what a few bytes can show is in tests/unit/test_depot_indexes.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.depot.keys import Keys, make_keys
from centralita.depot.record import Release, ReleaseFile
from centralita.depot.verify import verify_folder
from centralita.desk import depots
from centralita.formats.catalogue import FORMATS
from centralita.formats.output import add_formats
from centralita.formats.subject import golden_subject
from centralita.ground import accel
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.image.record import write_record
from centralita.lab.firmware import Firmware
from centralita.lab.incus import incus
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.qemu import MachineSpec
from centralita.lab.servers import Authority, make_authority, registry, web_server
from tests.formats.conftest import BOOT_S, Seeded
from tests.formats.unpack import assert_same_disk, blob, layout, only_layer, taken_out

pytestmark = pytest.mark.xdist_group("formats")
Record = Callable[[str, object], None]
Judge = Callable[[LabNetwork], None]
DISKS = [name for name, form in FORMATS.items() if form.holds == "disk"]
SLOW_S = 1800.0

# What Incus gives its machines beside the lab's own devices (its internal/server/instance/drivers, "qemuBase" and
# what follows): the firmware is OVMF with Microsoft's keys and Secure Boot on, the disk is one of virtio-scsi.
INCUS_DEVICES = (
    "-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1", "-device", "virtio-balloon-pci",
    "-device", "virtio-vga", "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci", "-chardev",
    "ringbuf,id=agent,size=16B", "-device", "virtserialport,name=org.linuxcontainers.incus,chardev=agent",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A depot in a folder, with one release of the golden image in every format."""

    folder: Path
    release: Release
    keys: Keys

    def file(self, form: str) -> ReleaseFile:
        """A file of the release."""
        found = self.release.file(form)
        assert found is not None
        return found

    def path(self, form: str) -> Path:
        """Where it is."""
        return self.folder / self.file(form).path


@pytest.fixture(scope="module")
def published(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """What `invoke publish --untested` makes of the image: what its tests say is another matter."""
    workdir = tmp_path_factory.mktemp("published")
    image, depot = workdir / "image", workdir / "depot"
    image.mkdir()
    # A copy: the user's image in output/ keeps the formats that its appliance declares.
    run(["cp", "--reflink=auto", golden.qcow2_path, image / golden.qcow2_path.name])
    kept = tuple(entry for entry in golden.record.formats if entry.format == "qcow2")
    record = golden.record.model_copy(update={"formats": kept})
    write_record(record, image / f"{record.appliance}.json")
    whole = add_formats(Golden(image, record), ("all",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(workdir / "state"))
        keys = make_keys()
        depots.publish_golden(whole, to=str(depot), untested=True, dry_run=False, name="test", url="")
        (release,) = verify_folder(depot).releases
    return Published(depot, release, keys)


@dataclass(frozen=True)
class Served:
    """The depot on its server."""

    url: str
    authority: Authority


@contextmanager
def served(published: Published, network: LabNetwork, workdir: Path) -> Iterator[Served]:
    """Serve the depot in a network."""
    authority = make_authority(workdir / "tls", network.host_address)
    with web_server(network, published.folder, authority, workdir) as url:
        yield Served(url, authority)


@contextmanager
def one_byte_changed(path: Path) -> Iterator[None]:
    """Meanwhile a byte in the middle of a file is another one."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        before = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([before[0] ^ 1]))
        stream.flush()
        try:
            yield
        finally:
            stream.seek(-1, os.SEEK_CUR)
            stream.write(before)


def test_incus_launches_a_container_from_the_depot(
    published: Published, seeded: Seeded, judged: Judge, tmp_path: Path, record_property: Record
) -> None:
    assert seeded.tenant.network.address is not None
    name = published.release.appliance
    with (
        seeded.network() as network,
        served(published, network, tmp_path) as site,
        incus(network, tmp_path, ca=site.authority.ca) as daemon,
    ):
        daemon.client("remote", "add", "depot", site.url, "--protocol", "simplestreams")
        images = json.loads(daemon.client("image", "list", "depot:", "--format", "json").stdout)
        # By Incus's own reckoning these are the digests of what it will have: metadata and disk, or tree, in one.
        assert {image["type"]: image["fingerprint"] for image in images} == {
            "container": published.file("root.tar.xz").incus_fingerprint,
            "virtual-machine": published.file("qcow2").incus_fingerprint,
        }
        tenant = daemon.bring(seeded.folder, "tenant")
        daemon.client("profile", "create", "tenant")
        daemon.client("profile", "device", "add", "tenant", "tenant", "disk", f"source={tenant}", "path=/pbx-tenant",
                      "readonly=true")  # fmt: skip
        daemon.client("launch", f"depot:{name}", "duo", "--profile", "default", "--profile", "tenant", timeout_s=SLOW_S)
        answer = daemon.daemon.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)
        read = daemon.client("exec", "duo", "--", "cat", "/etc/machine-id").stdout.strip()
        assert read == seeded.identity.machine_id
        record_property("incus", daemon.client("version").stdout.split()[-1])


def test_incus_checks_its_machine_s_image_which_boots(
    published: Published,
    seeded: Seeded,
    overlay: Callable[[Path, str], Path],
    judged: Judge,
    tmp_path: Path,
    record_property: Record,
) -> None:
    assert seeded.tenant.network.address is not None
    name = published.release.appliance
    copy = ("image", "copy", f"depot:{name}", "local:", "--vm", "--alias", "machine")
    disk = tmp_path / "disk.qcow2"
    with (
        seeded.network() as network,
        served(published, network, tmp_path) as site,
        incus(network, tmp_path, ca=site.authority.ca) as daemon,
    ):
        daemon.client("remote", "add", "depot", site.url, "--protocol", "simplestreams")
        with one_byte_changed(published.path("qcow2")):
            refused = daemon.client(*copy, check=False, timeout_s=SLOW_S)
        assert refused.returncode != 0
        assert "hash" in refused.stderr.lower(), refused.stderr
        daemon.client(*copy, timeout_s=SLOW_S)
        (image,) = json.loads(daemon.client("image", "list", "--format", "json").stdout)
        assert (image["type"], image["fingerprint"]) == (
            "virtual-machine", published.file("qcow2").incus_fingerprint,
        )  # fmt: skip
        daemon.client("image", "export", "machine", "/root/taken", timeout_s=SLOW_S)
        taken = {sha256_of(path): path for path in daemon.fetched("/root").glob("taken*")}
        assert set(taken) == {published.file("qcow2").sha256, published.file("incus.tar.xz").sha256}
        run(["cp", taken[published.file("qcow2").sha256], disk])
    spec = MachineSpec(
        name="incus-vm", disk=overlay(disk, "qcow2"), mac=seeded.identity.mac,
        memory_mib=published.release.memory_mib, firmware="uefi-secure", disk_bus="virtio-scsi",
        extra_args=(*INCUS_DEVICES, *disc(seeded, "scsi-cd,bus=scsi0.0")),
    )  # fmt: skip
    with seeded.network() as network, Machine(spec, network, workdir=tmp_path / "machine") as machine:
        answer = machine.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)


def disc(seeded: Seeded, device: str) -> tuple[str, ...]:
    """QEMU's arguments for the tenant's disc."""
    return ("-drive", f"file={seeded.disc},format=raw,if=none,id=seed,readonly=on,media=cdrom", "-device",
            f"{device},drive=seed")  # fmt: skip


def sha256_of(path: Path) -> str:
    """A file's digest."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture(scope="module")
def built(published: Published, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest of 4 GiB that virt-builder made from the depot, as a raw disk."""
    workdir = tmp_path_factory.mktemp("virt-builder")
    guest, repos, gnupg = workdir / "guest.img", workdir / "config/virt-builder/repos.d", workdir / "gnupg"
    repos.mkdir(parents=True)
    # The files of these names that came with virt-builder would ask the Internet.
    for name in ("libguestfs.conf", "opensuse.conf"):
        (repos / name).write_text("")
    gnupg.mkdir(mode=0o700)
    with seeded.network() as network, served(published, network, workdir) as site:
        env = {
            "XDG_CONFIG_HOME": str(workdir / "config"), "GNUPGHOME": str(gnupg), "HOME": str(workdir),
            "CURL_CA_BUNDLE": str(site.authority.ca), "LIBGUESTFS_BACKEND": "direct",
        }  # fmt: skip
        if accel.probe().name == "tcg":
            env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        key = workdir / "openpgp.asc"
        run(network.argv(["curl", "-sSf", "-o", key, f"{site.url}/keys/openpgp.asc"]), env=env)
        run(["gpg", "-q", "--batch", "--import", key], env=env)
        source = ("--source", f"{site.url}/index.asc", "--fingerprint", published.keys.openpgp)
        argv: list[str | Path] = [
            "virt-builder",
            "--no-cache",
            *source,
            published.release.appliance,
            "--size",
            "4G",
            "-o",
            guest,
        ]
        run(network.argv(argv), env=env, timeout_s=SLOW_S, log=workdir / "virt-builder.log")
    assert guest.stat().st_size == 4 << 30
    return guest


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_guest_made_by_virt_builder_boots(
    firmware: Firmware,
    built: Path,
    published: Published,
    seeded: Seeded,
    overlay: Callable[[Path, str], Path],
    judged: Judge,
    tmp_path: Path,
    record_property: Record,
) -> None:
    assert seeded.tenant.network.address is not None
    spec = MachineSpec(
        name=f"built-{firmware}", disk=overlay(built, "raw"), mac=seeded.identity.mac,
        memory_mib=published.release.memory_mib, firmware=firmware, extra_args=disc(seeded, "ide-cd,bus=ide.2"),
    )  # fmt: skip
    with seeded.network() as network, Machine(spec, network, workdir=tmp_path / "machine") as machine:
        answer = machine.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)


def test_skopeo_pushes_a_release_to_a_registry_and_pulls_it_the_same(
    published: Published, seeded: Seeded, tmp_path: Path
) -> None:
    name = published.release.appliance
    with seeded.network() as network:
        authority = make_authority(tmp_path / "tls", network.host_address)
        with registry(network, authority, tmp_path) as host:
            trust(authority, tmp_path)
            copy(network, tmp_path, f"oci:{published.folder}/oci:{name}", f"docker://{host}/{name}:latest")
            copy(network, tmp_path, f"docker://{host}/{name}:latest", f"oci:{tmp_path}/pulled:{name}")
    (entry,) = json.loads((tmp_path / "pulled/index.json").read_bytes())["manifests"]
    manifest = blob(tmp_path / "pulled", entry).read_bytes()
    # The manifest is the depot's own, byte for byte, and what it names is the release.
    assert (published.folder / "oci/blobs" / entry["digest"].replace(":", "/")).read_bytes() == manifest
    layers = [blob(tmp_path / "pulled", layer) for layer in json.loads(manifest)["layers"]]
    assert [path.name for path in layers] == [file.sha256 for file in published.release.files]


@pytest.mark.parametrize("form", ["containerdisk", "oci"])
def test_skopeo_takes_the_container_images_to_a_registry_and_back(
    form: str, published: Published, seeded: Seeded, golden: Golden, tmp_path: Path
) -> None:
    archive, name = published.path(form), published.release.appliance
    with seeded.network() as network:
        authority = make_authority(tmp_path / "tls", network.host_address)
        with registry(network, authority, tmp_path) as host:
            trust(authority, tmp_path)
            copy(network, tmp_path, f"oci-archive:{archive}", f"docker://{host}/{name}:1")
            copy(network, tmp_path, f"docker://{host}/{name}:1", f"oci:{tmp_path}/pulled:1")
    before, after = layout(archive, tmp_path / "before"), tmp_path / "pulled"
    digests = [json.loads((side / "index.json").read_bytes())["manifests"][0]["digest"] for side in (before, after)]
    assert digests[0] == digests[1]
    layer = only_layer(after)
    if form == "oci":
        return
    # KubeVirt's rule for a containerDisk: one disk in /disk, which the user qemu of its launcher (107) can read.
    with tarfile.open(layer) as tar:
        entries = [(m.name, m.uid, m.gid, oct(m.mode)) for m in tar if not m.isdir()]
        assert entries == [(f"disk/{name}.qcow2", 107, 107, "0o440")]
        stream = tar.extractfile(entries[0][0])
        assert stream is not None
        disk = tmp_path / "disk.qcow2"
        with disk.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
    with golden_subject(golden) as subject:
        assert_same_disk(form, disk, subject.raw, tmp_path)


def trust(authority: Authority, workdir: Path) -> None:
    """Lay the authority's certificate where skopeo is told to look."""
    (workdir / "certs").mkdir()
    (workdir / "certs/ca.crt").write_bytes(authority.ca.read_bytes())


def copy(network: LabNetwork, workdir: Path, source: str, target: str) -> None:
    """Run `skopeo copy`."""
    option = "--dest-cert-dir" if target.startswith("docker:") else "--src-cert-dir"
    run(network.argv(["skopeo", "copy", "-q", "--preserve-digests", option, workdir / "certs", source, target]))


@pytest.mark.parametrize("form", DISKS)
def test_the_published_disk_is_the_golden_one(form: str, published: Published, golden: Golden, tmp_path: Path) -> None:
    with golden_subject(golden) as subject:
        disk = taken_out(form, published.path(form), tmp_path, subject.size_bytes)
        assert_same_disk(form, disk, subject.raw, tmp_path)


def test_virt_v2v_reads_the_ova_and_checks_its_manifest(published: Published, tmp_path: Path) -> None:
    ova, release = tmp_path / "pbx.ova", published.release
    run(["cp", "--reflink=auto", published.path("ova"), ova])
    argv: list[str | Path] = ["virt-v2v", "-i", "ova", ova, "--print-source"]
    said = run(argv, env={"LIBGUESTFS_BACKEND": "direct"}, timeout_s=SLOW_S).stdout
    shown = {" ".join(line.split()) for line in said.splitlines()}
    assert {
        f"source name: {release.appliance}", "hypervisor type: vmware", f"memory: {release.memory_mib << 20} (bytes)",
        f"nr vCPUs: {release.vcpus}", "0 [scsi]", "CD-ROM [ide] in slot 0", 'Bridge "VM Network" [vmxnet3]',
    } <= shown  # fmt: skip
    with one_byte_changed(ova):
        refused = run(argv, env={"LIBGUESTFS_BACKEND": "direct"}, timeout_s=SLOW_S, check=False)
    assert refused.returncode != 0
    assert "manifest" in refused.stderr, refused.stderr
