"""Indexes for clients that are there already. Each is a pure function of the releases in a depot."""

from __future__ import annotations

from centralita.depot.indexes import feed, oci, page, simplestreams, virtbuilder
from centralita.depot.indexes.base import Alias, Render, Site

__all__ = ["GENERATORS", "Alias", "Render", "Site"]

#: Every index, in the order in which they are replaced; the depot's own index.json comes after all of them.
GENERATORS: tuple[Render, ...] = (oci.render, virtbuilder.render, simplestreams.render, feed.render, page.render)
