"""Appliances: inheritance, resolution, and all errors at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.ground.errors import Problem, SpecError
from centralita.spec.appliance import list_appliances, load_appliance

pytestmark = pytest.mark.unit

SMALL = "extends: pbx-base\ndescription: A test\nversion: 1.2.3\n"


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path | str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        load_appliance(path)
    return caught.value.problems


def test_the_shipped_appliances_are_as_promised() -> None:
    small, medium = load_appliance("pbx-small"), load_appliance("pbx-medium")
    assert (small.memory_mib, small.vcpus, small.asterisk.sounds) == (512, 1, ("en",))
    assert (medium.memory_mib, medium.vcpus, medium.asterisk.sounds) == (1024, 2, ("en", "es"))
    assert {"res_fax_spandsp", "res_pjsip_transport_websocket"} <= set(medium.asterisk.modules)
    assert set(small.asterisk.modules) < set(medium.asterisk.modules)
    assert small.mirror.accept_expired and medium.mirror.accept_expired
    assert not small.abstract
    assert load_appliance("pbx-base").abstract
    assert not {"metadata_csum_seed", "orphan_file"} & set(small.disk.ext4_features)


def test_all_shipped_files_load() -> None:
    assert {"pbx-base", "pbx-small", "pbx-medium"} <= set(list_appliances())
    for name in list_appliances():
        assert load_appliance(name).name == name


def test_resolved_is_plain_and_knows_no_paths() -> None:
    resolved = load_appliance("pbx-small").resolved()
    assert resolved["schema"] == 1
    assert resolved["kernel"]["package"] == "linux-image-amd64"
    assert "sources" not in resolved
    assert str(Path.cwd()) not in str(resolved)


def test_a_file_elsewhere_extends_the_repositorys(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    appliance = load_appliance(write(folder, SMALL + "packages: {add: [sngrep]}\nkernel: {cmdline: [quiet]}\n"))
    base = load_appliance("pbx-base")
    assert appliance.name == "mine"
    assert appliance.packages == (*base.packages, "sngrep")
    assert appliance.kernel.cmdline == ("quiet",)
    assert appliance.kernel.modules == base.kernel.modules
    assert len(appliance.sources) == 2


def test_the_same_folder_wins_over_the_repository(tmp_path: Path) -> None:
    write(tmp_path, "description: Mine\nversion: 1.0.0\nmemory_mib: 300\n", "pbx-base.yaml")
    assert load_appliance(write(tmp_path, SMALL)).memory_mib == 300


def test_a_sound_package_brings_its_language_link() -> None:
    assert load_appliance("pbx-medium").asterisk.sound_packages() == (
        "asterisk-core-sounds-en",
        "asterisk-core-sounds-en-gsm",
        "asterisk-core-sounds-es",
        "asterisk-core-sounds-es-gsm",
    )


def test_an_unknown_name_suggests_the_closest() -> None:
    (problem,) = problems_of("pbx-smal")
    assert "'pbx-small'" in problem.fix


def test_cycles_and_missing_parents_name_the_line(tmp_path: Path) -> None:
    write(tmp_path, "extends: b\ndescription: A\nversion: 1.0.0\nmemory_mib: 512\n", "a.yaml")
    write(tmp_path, "\nextends: a\n", "b.yaml")
    (cycle,) = problems_of(tmp_path / "a.yaml")
    assert (cycle.line, cycle.field) == (2, "extends")
    assert "a → b → a" in cycle.message
    (missing,) = problems_of(write(tmp_path, SMALL.replace("pbx-base", "pbx-bass") + "memory_mib: 512\n"))
    assert (missing.line, missing.field) == (1, "extends")
    assert "'pbx-base'" in missing.fix


def test_errors_of_parent_and_child_come_together(tmp_path: Path) -> None:
    write(tmp_path, "description: P\nversion: one\nvcpus: 0\n", "parent.yaml")
    path = write(tmp_path, "extends: parent\nmemory_mb: 512\n", "child.yaml")
    found = problems_of(path)
    assert [(Path(p.file).name, p.line, p.field) for p in found] == [
        ("child.yaml", 1, "memory_mib"),
        ("child.yaml", 2, "memory_mb"),
        ("parent.yaml", 2, "version"),
        ("parent.yaml", 3, "vcpus"),
    ]
    assert found[0].message == "is missing"
    assert "'memory_mib'" in found[1].fix


BROKEN = [
    ("schema: 2", "schema", "one of: 1"),
    ("descripton: x", "descripton", "'description'"),
    ("version: 1.10", "version", '"1.10"'),
    ('memory_mib: "512"', "memory_mib", "128 to 1048576"),
    ("memory_mib: 64", "memory_mib", "128 to 1048576"),
    ("targets: [kmv]", "targets[0]", "'kvm'"),
    ("targets: []", "targets", "at least 1 item"),
    ("targets: kvm", "targets", "a list"),
    ("formats: [qcow]", "formats[0]", "'qcow2'"),
    ("mirror: http://mirror.example.org/debian", "mirror", "key: value"),
    ("mirror: {url: mirror.example.org}", "mirror.url", "http://mirror.example.org/debian"),
    ("mirror: {accept_expired: yes}", "mirror.accept_expired", "true or false"),
    ("packages: {add: [Foo_Bar]}", "packages[", "lower case"),
    ("packages: {remove: [asterik]}", "packages.remove[0]", "'asterisk'"),
    ("elements: {add: [astersk]}", "elements[", "'asterisk'"),
    ("purge_paths: [/]", "purge_paths[0]", "absolute path"),
    ("purge_paths: [usr/share/doc]", "purge_paths[0]", "absolute path"),
    ("purge_paths: [/usr/../etc]", "purge_paths[0]", "absolute path"),
    ("asterisk: {modules: {add: [app_dail]}}", "asterisk.modules[", "'app_dial'"),
    ("asterisk: {sounds: [de]}", "asterisk.sounds[0]", "one of: en, es, fr, it, ru"),
    ("kernel: {cmdline: [quiet ro]}", "kernel.cmdline[0]", "one list item an argument"),
    ("kernel: {modules: [virtio_net.ko]}", "kernel.modules[0]", "virtio_net"),
    ("disk: {size_mib: 100}", "disk.size_mib", "256 to 1048576"),
    ("disk: {size_mib: 256, esp_mib: 200}", "disk.esp_mib", "at most 128"),
    ("disk: {ext4_features: [orphan_file]}", "disk.ext4_features[0]", "remove it"),
    ("disk: {ext4_features: [extents]}", "disk.ext4_features[0]", "'extent'"),
    ("abstract: maybe", "abstract", "true or false"),
    ("extends: [pbx-base]", "extends", "text"),
]


@pytest.mark.parametrize(("line", "field", "fix"), BROKEN)
def test_each_error_names_line_field_and_fix(tmp_path: Path, line: str, field: str, fix: str) -> None:
    key = line.split(":")[0]
    lines = [known for known in SMALL.splitlines() if not known.startswith(f"{key}:")]
    found = problems_of(write(tmp_path, "\n".join([*lines, line]) + "\n"))
    place = [p for p in found if p.field.startswith(field) and p.line == len(lines) + 1]
    assert place, found
    assert fix in place[0].fix
    if key != "extends":
        assert len(found) == 1


def test_all_of_them_at_once(tmp_path: Path) -> None:
    chosen = {line.split(":")[0]: (line, field) for line, field, _fix in BROKEN if not line.startswith("extends")}
    text = "extends: pbx-base\n" + "\n".join(line for line, _field in chosen.values()) + "\n"
    found = problems_of(write(tmp_path, text))
    for number, (_line, field) in enumerate(chosen.values(), start=2):
        assert any(p.line == number and p.field.startswith(field) for p in found), field


def test_repeated_list_items_are_an_error(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, SMALL + "packages:\n  - asterisk\n  - asterisk\n"))
    assert (problem.line, problem.field) == (6, "packages[1]")
    assert "line 5" in problem.message


def test_a_file_name_that_is_no_name_is_an_error(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, SMALL, "My PBX.yaml"))
    assert "file name" in problem.fix


def test_a_list_edit_without_a_parent_adds_to_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "description: A\nversion: 1.0.0\nmemory_mib: 512\npackages: {add: [asterisk]}\n")
    assert load_appliance(path).packages == ("asterisk",)
