"""From a tenant and its identity to the files of its machine: hooks/manifest.yaml and the templates beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from pydantic import Field

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity
from centralita.clone.prompts import sound_files
from centralita.clone.quoting import FILTERS, Unquotable, marking, only_quoted
from centralita.clone.views import context_of
from centralita.ground.errors import CentralitaError, Problem, SpecError
from centralita.ground.paths import repo_root
from centralita.spec.problems import validate
from centralita.spec.source import load
from centralita.spec.tenant import Tenant
from centralita.spec.types import Model, matching

Mode = Annotated[str, matching(r"0[0-7]{3}", "a file mode", 'quoted octal digits, e.g. "0640"')]
Condition = Literal["static", "dhcp", "nameservers", "admins", "autologin", "trunks", "tls", "webrtc", "mail", "faxes"]


class ManifestFile(Model):
    """One file of the manifest."""

    path: str = Field(pattern=r"^/[^\s]+$")
    template: str | None = None
    text: str | None = None
    symlink: str | None = None
    directory: bool = False
    owner: str = "root"
    group: str = "root"
    mode: Mode = "0644"
    secret: bool = False
    when: Condition | None = None


class Manifest(Model):
    """hooks/manifest.yaml."""

    schema_: Literal[1] = Field(1, alias="schema")
    files: tuple[ManifestFile, ...] = Field(min_length=1)


def hooks_dir() -> Path:
    """Return the repository's folder of templates."""
    return repo_root() / "hooks"


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder of hooks. Raises SpecError with all that is wrong with it."""
    root = load(folder / "manifest.yaml")
    manifest, problems = validate(Manifest, root)
    files = root.get("files")
    for index, item in enumerate(files.items() if files is not None else ()):
        given = [key for key in ("template", "text", "symlink", "directory") if item.get(key) is not None]
        if len(given) != 1:
            message = f"has {len(given)} of template, text, symlink and directory"
            problems.append(Problem(item.file, item.line, f"files[{index}]", message, "give exactly one of them"))
    if problems or manifest is None:
        raise SpecError(problems)
    return manifest


@cache
def _manifest(folder: Path, _changed: int) -> Manifest:
    """Read once for a whole batch: reading takes longer than rendering."""
    return load_manifest(folder)


def render(tenant: Tenant, identity: Identity, hooks: Path | None = None) -> list[GuestFile]:
    """Return the files of a tenant's machine, in the order in which they are to be written.

    Raises :class:`SpecError` for a value that its place cannot hold, and CentralitaError for a broken template.
    """
    folder = hooks if hooks is not None else hooks_dir()
    manifest = _manifest(folder, (folder / "manifest.yaml").stat().st_mtime_ns)
    environment = template_environment(folder)
    context = context_of(tenant, identity)
    files = [*_host_keys(identity), *sound_files(tenant)]
    for item in manifest.files:
        if item.when is None or context[item.when]:
            files.append(_file(item, environment, context))
    return files


def _file(item: ManifestFile, environment: Environment, context: Mapping[str, Any]) -> GuestFile:
    if item.directory:
        return GuestFile(item.path, b"", int(item.mode, 8), item.owner, item.group, directory=True)
    try:
        if item.symlink is not None:
            target = environment.from_string(item.symlink).render(context)
            return GuestFile(item.path, symlink=target, owner=item.owner, group=item.group)
        template = (
            environment.get_template(item.template) if item.template else environment.from_string(item.text or "")
        )
        content = template.render(context)
    except Unquotable as error:
        raise SpecError([Problem("tenant", None, item.path, str(error), "change the value")]) from None
    except (TemplateError, TypeError) as error:
        raise CentralitaError(
            f"the template of {item.path} cannot be rendered: {error}", hint="see hooks/README.md"
        ) from error
    return GuestFile(item.path, content.encode("utf-8"), int(item.mode, 8), item.owner, item.group, secret=item.secret)


@cache
def template_environment(folder: Path) -> Environment:
    """Return Jinja as all templates have it: they print nothing that no filter of quoting.py has seen."""
    environment = Environment(
        loader=FileSystemLoader(folder, encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=False,  # no HTML: quoting.py has the filters, and `finalize` sees to it that they are used
        finalize=only_quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=True,
    )
    environment.filters.update({name: marking(function) for name, function in FILTERS.items()})
    environment.filters["json"] = marking(_json)
    return environment


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _host_keys(identity: Identity) -> list[GuestFile]:
    files = []
    for key in identity.host_keys:
        path = f"/etc/ssh/ssh_host_{key.kind}_key"
        files.append(GuestFile(path, key.private.encode("ascii"), 0o600, secret=True))
        files.append(GuestFile(path + ".pub", (key.public + "\n").encode("ascii"), 0o644))
    return files
