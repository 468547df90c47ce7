"""Asterisk's built-in documentation, cut to what Asterisk needs to start.

Asterisk keeps its XML documentation in memory as a tree and looks every option of its configuration up in it; without
the file it does not start, and an application that is not in it is a warning in the log. Cut to names and option types,
the file is a tenth of its size, and Asterisk 22 with some 140 modules needs 35 MiB of memory in place of 62.
What goes is the text that `core show application` and its like print.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

# Looked up by name when an application or the like registers itself (main/xmldoc.c).
_REGISTERED = frozenset({"application", "function", "manager", "agi"})
_HEAD = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE docs SYSTEM "appdocsxml.dtd">
<?xml-stylesheet type="text/xsl" href="appdocsxml.xslt"?>
"""


def slim_documentation(xml: bytes) -> bytes:
    """Return ``core-en_US.xml`` with the names of what registers itself and the types of all options, and no texts.

    Applying it twice changes nothing more. Raises ValueError where it is not Asterisk's documentation.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if root.tag != "docs" or root.find("configInfo") is None:
        raise ValueError("not Asterisk's documentation: there is no configInfo in it")
    slim = ElementTree.Element("docs")
    for entry in root:
        if entry.tag in _REGISTERED:
            kept = ElementTree.SubElement(slim, entry.tag, entry.attrib)
            ElementTree.SubElement(kept, "synopsis").text = "-"
        elif entry.tag == "configInfo":
            _drop_texts(entry)
            slim.append(entry)
        else:
            continue
        slim[-1].tail = "\n"
    body: str = ElementTree.tostring(slim, encoding="unicode")
    return _HEAD + body.encode("utf-8") + b"\n"


def _drop_texts(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag in ("description", "see-also"):
            element.remove(child)
        elif child.tag == "synopsis":
            child.clear()
            child.text = "-"
        else:
            _drop_texts(child)
    element.tail = None
    if element.text is not None and not element.text.strip():
        element.text = None
