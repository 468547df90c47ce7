"""Naming hosts, adapting definitions to them, and a clone's records, without any host."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as Xml

import pytest

from centralita.ground.errors import CentralitaError
from centralita.hosts.address import SshTarget, parse_host
from centralita.hosts.libvirt import Libvirt
from centralita.hosts.records import Deployed, read_clone, read_deployed, write_deployed
from centralita.hosts.shell import Shell, SshShell
from centralita.hosts.xl import Xl

pytestmark = pytest.mark.unit

DOMAIN = """<domain type="kvm"><name>acme</name><cpu mode="host-passthrough" migratable="on" /><devices>
<disk><source file="/here/acme/system.qcow2" /></disk><disk><source file="/other.raw" /></disk></devices></domain>"""


@pytest.mark.parametrize(
    ("text", "kind", "uri", "ssh"),
    [
        ("qemu:///system", "libvirt", "qemu:///system", None),
        ("qemu+unix:///system?socket=/run/x", "libvirt", "qemu+unix:///system?socket=/run/x", None),
        ("qemu+ssh://root@pbx1/system", "libvirt", "qemu:///system", SshTarget("pbx1", "root")),
        (
            "qemu+ssh://pbx1:2222/system?keyfile=/k&socket=/s",
            "libvirt",
            "qemu+unix:///system?socket=/s",
            SshTarget("pbx1", None, 2222, "/k"),
        ),
        ("xen+ssh://root@dom0/", "libvirt", "xen:///", SshTarget("dom0", "root")),
        ("xen:///system", "libvirt", "xen:///system", None),
        ("xl:", "xl", "", None),
        ("xl:root@dom0", "xl", "", SshTarget("dom0", "root")),
        ("xl+ssh://root@dom0:2222", "xl", "", SshTarget("dom0", "root", 2222)),
    ],
)
def test_a_host_s_name_says_how_to_reach_it(text: str, kind: str, uri: str, ssh: SshTarget | None) -> None:
    host = parse_host(text)
    assert (host.kind, host.uri, host.ssh) == (kind, uri, ssh)


@pytest.mark.parametrize(
    "text",
    [
        "", "pbx1", "qemu", "qemu:///", "vbox:///session", "qemu+tls://pbx1/system", "qemu://pbx1/system", "xl:-oProxy",
        "qemu+ssh:///system", "qemu+ssh://-oProxyCommand=x/system", "qemu+ssh://a;b@pbx1/system", "qemu+ssh://h:x/system",
        "qemu+ssh://u:password@pbx1/system",
    ],
)  # fmt: skip
def test_what_names_no_host_is_refused(text: str) -> None:
    with pytest.raises(CentralitaError):
        parse_host(text)


def test_ssh_gets_words_that_its_far_shell_reads_as_they_are(tmp_path: Path) -> None:
    shell = SshShell(SshTarget("pbx1", "root", 2222, "/k"), tmp_path)
    argv = shell.argv(["cat", "--", "/a b;c'd"])
    assert argv[-3:] == ["--", "pbx1", """LC_ALL=C cat -- '/a b;c'"'"'d'"""]
    assert "IdentitiesOnly=yes" in argv and "2222" in argv


def test_a_domain_is_emulated_where_the_host_has_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    for accelerator, kind, mode in (("tcg", "qemu", "maximum"), ("kvm", "kvm", "host-passthrough")):
        monkeypatch.setenv("CENTRALITA_ACCEL", accelerator)
        moved = {"/here/acme/system.qcow2": "/there/system.qcow2"}
        domain = Xml.fromstring(Libvirt(Shell(), "qemu:///system").adapted(DOMAIN, moved))
        assert domain.get("type") == kind
        cpu = domain.find("cpu")
        assert cpu is not None and cpu.get("mode") == mode
        assert [s.get("file") for s in domain.iterfind(".//source")] == ["/there/system.qcow2", "/other.raw"]


def test_xl_s_disks_are_moved_as_whole_paths() -> None:
    text = 'disk = ["format=raw, vdev=xvda, target=/a/b", "format=raw, vdev=xvdb, target=/a/bc"]\n'
    assert Xl(Shell()).adapted(text, {"/a/b": "/z"}) == text.replace('/a/b"', '/z"')


def test_a_host_s_files_are_whole_and_staged_ones_go(tmp_path: Path) -> None:
    shell, place = Shell(), PurePosixPath(tmp_path)
    assert shell.read(place / "x") is None
    shell.write(place / "x", "ñ\n", 0o600)
    assert shell.read(place / "x") == "ñ\n"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    source = tmp_path / "big"
    with source.open("wb") as stream:
        stream.truncate(1 << 24)
    with shell.staged(source, place) as staged:
        assert shell.sha256(staged) == shell.sha256(PurePosixPath(source))
        assert Path(staged).stat().st_blocks == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "x"]


def test_records_are_read_and_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(CentralitaError, match="not a clone's folder"):
        read_clone(tmp_path)
    record = {
        "name": "acme", "uuid": "u", "mac": "m", "address": "10.0.0.2", "golden_digest": "d", "appliance": "pbx-small",
        "version": "1", "disk": "/c/system.qcow2", "backing": "/g.qcow2", "data": None,
    }  # fmt: skip
    (tmp_path / "clone.json").write_text(json.dumps(record))
    clone = read_clone(tmp_path)
    assert (str(clone.address), clone.target, clone.data) == ("10.0.0.2", "kvm", None)
    (tmp_path / "clone.json").write_text("{}")
    with pytest.raises(CentralitaError, match="cannot be read"):
        read_clone(tmp_path)
    assert read_deployed(tmp_path) is None
    deployed = Deployed("qemu:///system", "/var/lib/centralita", "2026-01-01")
    write_deployed(tmp_path, deployed)
    write_deployed(tmp_path, replace(deployed, applied="2026-01-02"))
    assert read_deployed(tmp_path) == replace(deployed, applied="2026-01-02")
    write_deployed(tmp_path, None)
    assert read_deployed(tmp_path) is None
