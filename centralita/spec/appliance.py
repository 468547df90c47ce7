"""The appliance: what an engineer declares in ``appliances/NAME.yaml``, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from centralita.ground.errors import Problem, SpecError
from centralita.ground.paths import repo_root
from centralita.spec.asterisk_modules import KNOWN_MODULES
from centralita.spec.merge import merge, settle
from centralita.spec.problems import Complaint, choose_from, did_you_mean, validate
from centralita.spec.source import Node, load, shown_path
from centralita.spec.types import Language, Line, Model, matching

Target = Literal["kvm", "xen-pv", "xen-pvh", "xen-hvm", "container"]
Format = Literal[
    "qcow2", "raw.zst", "vmdk", "ova", "vdi", "vhd", "vhd-fixed", "vhdx", "xva", "hdd", "kernel", "initrd", "cmdline",
    "root.tar.xz", "incus.tar.xz", "containerdisk", "oci", "direct", "incus", "all",
]  # fmt: skip
SoundFormat = Literal["gsm", "wav", "g722"]

_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
Name = Annotated[str, matching(_NAME, "a name", "use a-z, 0-9 and hyphens, e.g. pbx-small")]
Version = Annotated[
    str,
    matching(
        r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?",
        "a version (semver.org)",
        "write MAJOR.MINOR.PATCH, e.g. 1.0.0",
    ),
]
DebianPackage = Annotated[
    str,
    # Debian Policy 5.6.1
    matching(
        r"[a-z0-9][a-z0-9+.-]+", "a Debian package name", "lower case letters, digits, + - and ., e.g. openssh-server"
    ),
]
ElementName = Annotated[
    str, matching(r"[a-z0-9][a-z0-9_.-]*", "an element's name", "the name of a folder in elements/")
]
KernelModule = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9_-]*", "a kernel module's name", "without path and .ko, e.g. virtio_net")
]
KernelArgument = Annotated[
    str,
    matching(
        r"[!-~]+", "one kernel argument", "no spaces in it, and one list item an argument, e.g. console=ttyS0,115200n8"
    ),
]
Url = Annotated[
    str,
    matching(r"(https?|file)://[^\s'\"\\]+", "a mirror's address", "e.g. http://mirror.example.org/debian"),
]
Suite = Annotated[str, matching(r"[a-z][a-z0-9./-]*", "a Debian suite", "e.g. forky")]
Component = Annotated[str, matching(r"[a-z][a-z0-9/-]*", "an archive component", "e.g. main")]

# ext4(5); the features that mke2fs can set and a root file system can use.
_EXT4_FEATURES = (
    "64bit", "bigalloc", "casefold", "dir_index", "dir_nlink", "ea_inode", "encrypt", "ext_attr", "extent",
    "extra_isize", "filetype", "flex_bg", "has_journal", "huge_file", "inline_data", "large_dir", "large_file",
    "metadata_csum", "meta_bg", "mmp", "quota", "resize_inode", "sparse_super", "sparse_super2", "stable_inodes",
    "uninit_bg", "verity",
)  # fmt: skip
_REFUSED_FEATURES = ("metadata_csum_seed", "orphan_file")


def _ext4_feature(value: str) -> str:
    if value in _REFUSED_FEATURES:
        raise Complaint(f"{value} keeps older boot loaders and libguestfs from reading the disk", "remove it")
    if value not in _EXT4_FEATURES:
        raise Complaint(f"{value!r} is not an ext4 feature", choose_from(value, _EXT4_FEATURES))
    return value


def _purge_path(value: str) -> str:
    parts = [part for part in value.split("/") if part]
    if not value.startswith("/") or ".." in parts or not parts or set(parts[0]) <= set("*?[]") or "\n" in value:
        raise Complaint(
            f"{value!r} is not a path to purge", "an absolute path below a named folder, e.g. /usr/share/doc/*"
        )
    return value


def _asterisk_module(value: str) -> str:
    if value not in KNOWN_MODULES:
        fix = did_you_mean(value, KNOWN_MODULES) or "a module that an element installs goes to third_party_modules"
        raise Complaint(f"Debian's Asterisk 22 has no module {value!r}", fix)
    return value


AsteriskModule = Annotated[str, AfterValidator(_asterisk_module)]
ThirdPartyModule = Annotated[
    str, matching(r"[a-z0-9]+(_[a-z0-9]+)+", "an Asterisk module's name", "without .so, e.g. codec_opus")
]


class Mirror(Model):
    """Where Debian packages come from."""

    url: Url | None = Field(
        None,
        description="The mirror; null: the one that the build host itself uses.",
        examples=["http://mirror.example.org/debian"],
    )
    suite: Suite = Field("forky", examples=["forky"])
    components: tuple[Component, ...] = Field(("main",), min_length=1, examples=["main"])
    accept_expired: bool = Field(
        False, description="Accept a Release file past its Valid-Until date (its signature is still checked)."
    )
    snapshots: tuple[Url, ...] = Field(
        (),
        description="Mirrors asked for locked versions that the mirror no longer has.",
        examples=["https://snapshot.debian.org/archive/debian/20260101T000000Z"],
    )
    keyring: str | None = Field(
        None,
        min_length=1,
        description="A keyring file; null: the build host's Debian archive keyring.",
        examples=["/usr/share/keyrings/debian-archive-keyring.gpg"],
    )


class Asterisk(Model):
    """What Asterisk loads and speaks."""

    modules: tuple[AsteriskModule, ...] = Field(
        (), description="Modules to load; what they require is added.", examples=["app_dial"]
    )
    third_party_modules: tuple[ThirdPartyModule, ...] = Field(
        (), description="Modules that an element installs.", examples=["codec_opus"]
    )
    sounds: tuple[Language, ...] = Field(
        ("en",), min_length=1, description="Languages of the prompts.", examples=["en"]
    )
    sound_formats: tuple[SoundFormat, ...] = Field(
        ("gsm",), min_length=1, description="Formats of the prompts.", examples=["gsm"]
    )

    def sound_packages(self) -> tuple[str, ...]:
        """Return the Debian packages that hold the prompts.

        The package without a format has the update-alternatives link (sounds/es) by which Asterisk finds a language.
        """
        names = []
        for language in self.sounds:
            names.append(f"asterisk-core-sounds-{language}")
            names += [f"asterisk-core-sounds-{language}-{form}" for form in self.sound_formats]
        return tuple(names)


class Kernel(Model):
    """The kernel, its command line and the modules that stay in the image."""

    package: DebianPackage = Field("linux-image-amd64", examples=["linux-image-amd64"])
    cmdline: tuple[KernelArgument, ...] = Field(
        (), description="Kernel arguments; root= is added by the build.", examples=["quiet"]
    )
    initramfs_modules: tuple[KernelModule, ...] = Field(
        (),
        description="Modules in the initramfs: what is needed to find the root file system.",
        examples=["virtio_blk"],
    )
    modules: tuple[KernelModule, ...] = Field(
        (), description="Modules kept in the root file system; dependencies are added.", examples=["virtio_net"]
    )


class Disk(Model):
    """The golden disk's sizes and its root file system's features."""

    size_mib: int = Field(1024, ge=256, le=1048576, examples=[1024])
    esp_mib: int = Field(16, ge=4, le=1024, examples=[16])
    ext4_features: tuple[Annotated[str, AfterValidator(_ext4_feature)], ...] = Field((), examples=["extent"])


class ApplianceFile(Model):
    """What an appliance's file may say, after inheritance."""

    schema_: Literal[1] = Field(1, alias="schema", examples=[1])
    extends: Name | None = Field(None, description="The appliance this one inherits from.", examples=["pbx-base"])
    abstract: bool = Field(False, description="Only to be extended; never built.")
    description: Line = Field(min_length=1, max_length=200, examples=["A small office's PBX"])
    version: Version = Field(examples=["1.0.0"])
    memory_mib: int = Field(ge=128, le=1048576, description="Memory of a machine, MiB.", examples=[512])
    vcpus: int = Field(1, ge=1, le=256, examples=[1])
    targets: tuple[Target, ...] = Field(
        ("kvm", "xen-pv", "xen-pvh", "xen-hvm", "container"), min_length=1, examples=["kvm"]
    )
    mirror: Mirror = Field(default_factory=lambda: Mirror.model_validate({}))
    packages: tuple[DebianPackage, ...] = Field((), description="Debian packages to install.", examples=["asterisk"])
    elements: tuple[ElementName, ...] = Field(
        (), description="Folders of elements/ that make the OS tree.", examples=["asterisk"]
    )
    purge_paths: tuple[Annotated[str, AfterValidator(_purge_path)], ...] = Field(
        (), description="Globs removed from the tree.", examples=["/usr/share/doc/*"]
    )
    asterisk: Asterisk = Field(default_factory=lambda: Asterisk.model_validate({}))
    kernel: Kernel = Field(default_factory=lambda: Kernel.model_validate({}))
    disk: Disk = Field(default_factory=lambda: Disk.model_validate({}))
    formats: tuple[Format, ...] = Field(("qcow2",), min_length=1, examples=["qcow2"])


class Appliance(ApplianceFile):
    """A resolved appliance: its file's values laid over its parents', and its name (the file's)."""

    name: Name
    sources: tuple[str, ...] = Field((), description="The files it was made of, child first.")

    def resolved(self) -> dict[str, Any]:
        """Return all values as plain JSON data, for showing and for cache keys (without the files' paths)."""
        return self.model_dump(mode="json", by_alias=True, exclude={"sources"})


def appliances_dir() -> Path:
    """Return the repository's folder of appliances."""
    return repo_root() / "appliances"


def list_appliances(folder: Path | None = None) -> dict[str, Path]:
    """Return the declared appliances, broken and abstract ones included, by name in sorted order."""
    found = sorted((folder or appliances_dir()).glob("*.yaml"))
    return {path.stem: path for path in found}


def load_appliance(name_or_path: str | Path) -> Appliance:
    """Return the appliance ``pbx-small`` of the repository, or the one in a given file.

    What holds a ``/`` or ends in ``.yaml`` is a file's path.

    Raises :class:`SpecError` with all problems of the file and of those it extends.
    """
    path, shown = _locate(name_or_path)
    chain, problems = _read_chain(path, shown)
    merged = chain[-1]
    for child in reversed(chain[:-1]):
        merged = merge(merged, child, problems)
    for key in ("abstract", "extends"):  # a file's own affair
        own = chain[0].get(key)
        children = {k: v for k, v in merged.value.items() if k != key}
        merged = Node(children | ({key: own} if own is not None else {}), merged.file, merged.line)
    merged = settle(merged, problems)
    declared, found = validate(ApplianceFile, merged)
    problems += found
    problems += _cross_check(merged)
    if not _is_name(path.stem):
        problems.append(
            Problem(
                shown,
                None,
                "(file)",
                f"{path.stem!r} is not a name for an appliance",
                "use a-z, 0-9 and hyphens in the file name",
            )
        )
    if problems or declared is None:
        raise SpecError(_in_order(problems, [node.file for node in chain]))
    values = {field.alias or name: getattr(declared, name) for name, field in ApplianceFile.model_fields.items()}
    return Appliance.model_validate({**values, "name": path.stem, "sources": tuple(node.file for node in chain)})


def _is_name(text: str) -> bool:
    import re

    return re.fullmatch(_NAME, text) is not None


def _in_order(problems: list[Problem], files: list[str]) -> list[Problem]:
    rank = {file: i for i, file in enumerate(files)}
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda p: (rank.get(p.file, len(rank)), p.line or 0))


def _locate(name_or_path: str | Path) -> tuple[Path, str]:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return Path(text), text
    path = appliances_dir() / f"{text}.yaml"
    if not path.is_file():
        names = [name for name in list_appliances()]
        message = f"there is no appliance {text!r}"
        raise SpecError([Problem(shown_path(path), None, "(file)", message, choose_from(text, names))])
    return path, shown_path(path)


def _read_chain(path: Path, shown: str) -> tuple[list[Node], list[Problem]]:
    """Read a file and those it extends, child first. A parent that cannot be found is a problem, not the end."""
    chain: list[Node] = []
    problems: list[Problem] = []
    seen: dict[Path, str] = {}
    while True:
        try:
            node = load(path, shown)
        except SpecError as error:
            raise SpecError([*problems, *error.problems]) from None
        chain.append(node)
        seen[path.resolve()] = shown
        extends = node.get("extends")
        name = extends.text() if extends is not None else None
        if extends is None or name is None or not _is_name(name):
            return chain, problems  # a value that is no name is the model's to complain about
        parent = _parent(path, name)
        if parent is None:
            known = [*list_appliances(path.parent), *list_appliances()]
            fix = choose_from(name, sorted(set(known) - {path.stem}))
            problems.append(Problem(node.file, extends.line, "extends", f"there is no appliance {name!r}", fix))
            return chain, problems
        if parent.resolve() in seen:
            way = " → ".join([*(Path(file).stem for file in seen.values()), name])
            problems.append(
                Problem(node.file, extends.line, "extends", f"goes round in a circle: {way}", "extend none of these")
            )
            return chain, problems
        path, shown = parent, shown_path(parent)


def _parent(child: Path, name: str) -> Path | None:
    for folder in (child.parent, appliances_dir()):
        candidate = folder / f"{name}.yaml"
        if candidate.is_file():
            return candidate
    return None


def _cross_check(root: Node) -> list[Problem]:
    problems: list[Problem] = []
    problems += _known_elements(root)
    problems += _disk_fits(root)
    for path in (
        ("packages",),
        ("elements",),
        ("targets",),
        ("formats",),
        ("asterisk", "modules"),
        ("asterisk", "sounds"),
    ):
        node, walked = root.find(path)
        if walked == path:
            problems += _no_repeats(node, ".".join(path))
    return problems


def _known_elements(root: Node) -> list[Problem]:
    folder = repo_root() / "elements"
    known = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    elements = root.get("elements")
    problems = []
    for index, item in enumerate(elements.items() if elements is not None else ()):
        name = item.text()
        if name is not None and name not in known:
            message = f"there is no element {name!r} in elements/"
            problems.append(Problem(item.file, item.line, f"elements[{index}]", message, choose_from(name, known)))
    return problems


def _disk_fits(root: Node) -> list[Problem]:
    size, walked = root.find(("disk", "size_mib"))
    esp, esp_walked = root.find(("disk", "esp_mib"))
    if len(walked) != 2 or len(esp_walked) != 2 or not isinstance(size.value, int) or not isinstance(esp.value, int):
        return []
    if esp.value * 2 > size.value:
        fix = f"esp_mib of at most {size.value // 2}, or a larger size_mib"
        return [
            Problem(esp.file, esp.line, "disk.esp_mib", f"{esp.value} of {size.value} MiB leaves the root no room", fix)
        ]
    return []


def _no_repeats(node: Node, field: str) -> list[Problem]:
    first: dict[str, Node] = {}
    problems = []
    for index, item in enumerate(node.items()):
        name = item.text()
        if name is not None and name in first:
            message = f"{name!r} is here and in line {first[name].line}"
            problems.append(Problem(item.file, item.line, f"{field}[{index}]", message, "keep one of the two"))
        elif name is not None:
            first[name] = item
    return problems
