"""Asterisk's module list, modules.conf and the cut documentation."""

from __future__ import annotations

import pytest

from centralita.spec.appliance import load_appliance
from centralita.spec.asterisk_docs import slim_documentation
from centralita.spec.asterisk_modules import KNOWN_MODULES, render_modules_conf, requirements, with_requirements

pytestmark = pytest.mark.unit


def test_requirements_come_first_and_once() -> None:
    ordered = with_requirements(["chan_pjsip", "res_pjsip", "cdr_custom"])
    assert len(set(ordered)) == len(ordered)
    for name in ordered:
        assert all(ordered.index(required) < ordered.index(name) for required in requirements()[name])
    assert {"res_pjproject", "res_sorcery_astdb", "res_cdrel_custom"} <= set(ordered)


def test_a_module_of_somebody_else_has_no_requirements() -> None:
    assert with_requirements(["codec_mine"]) == ("codec_mine",)


@pytest.mark.parametrize("name", ["pbx-small", "pbx-medium"])
def test_modules_conf_loads_the_list_and_nothing_else(name: str) -> None:
    modules = load_appliance(name).asterisk.modules
    text = render_modules_conf(modules)
    assert "autoload = no" in text
    loaded = [
        line.split("= ")[1].removesuffix(".so") for line in text.splitlines() if "load = " in line and ".so" in line
    ]
    assert set(modules) <= set(loaded) <= set(KNOWN_MODULES)
    assert len(loaded) == len(set(loaded)) <= 165
    assert render_modules_conf(modules) == text


@pytest.mark.parametrize("name", ["pbx-small", "pbx-medium"])
def test_what_must_not_reach_a_tenant_is_not_loaded(name: str) -> None:
    loaded = set(with_requirements(load_appliance(name).asterisk.modules))
    assert not loaded & {
        "chan_iax2",
        "chan_unistim",
        "res_pjsip_endpoint_identifier_anonymous",
        "app_system",
        "func_shell",
        "res_timing_pthread",
        "res_ari",
        "app_externalivr",
    }
    assert "res_timing_timerfd" in loaded


DOCS = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE docs SYSTEM "appdocsxml.dtd">
<docs xmlns:xi="http://www.w3.org/2001/XInclude">
<module language="en_US" name="app_dial"><support_level>core</support_level></module>
<application name="Dial" language="en_US"><synopsis>Dials.</synopsis>
<description><para>Long.</para></description></application>
<managerEvent language="en_US" name="DialBegin"><managerEventInstance/></managerEvent>
<configInfo name="res_pjsip" language="en_US"><synopsis>SIP</synopsis><configFile name="pjsip.conf">
<configObject name="endpoint"><synopsis>Endpoint</synopsis><description><para>Long.</para></description>
<configOption name="allow" default=""><synopsis>Codecs</synopsis></configOption></configObject>
</configFile></configInfo>
</docs>
"""


def test_the_documentation_is_cut_to_names_and_options() -> None:
    slim = slim_documentation(DOCS)
    assert slim_documentation(slim) == slim
    text = slim.decode()
    assert '<application name="Dial"' in text and '<configOption name="allow" default="">' in text
    assert "Long." not in text and "managerEvent" not in text and "<module" not in text
    assert '<!DOCTYPE docs SYSTEM "appdocsxml.dtd">' in text


@pytest.mark.parametrize("data", [b"", b"<docs/>", b"<html></html>", b"not xml"])
def test_other_files_are_not_taken_for_documentation(data: bytes) -> None:
    with pytest.raises(ValueError):
        slim_documentation(data)
