"""Owns the content of the test of GenericSetup: pages that reach their catalog by Acquisition."""

from __future__ import annotations

from typing import Any

from OFS.Application import Application
from OFS.Folder import Folder
from OFS.SimpleItem import SimpleItem
from Products.GenericSetup.tool import SetupTool
from Products.PluginIndexes.FieldIndex.FieldIndex import FieldIndex
from Products.ZCatalog.ZCatalog import ZCatalog


class Page(SimpleItem):
    """A page."""

    portal_type = "Document"
    views = 0

    def __init__(self, number: int):
        self.id = f"page-{number}"
        self.title = f"Page {number}"

    def reindexObject(self, idxs: Any = ()) -> None:
        """Into the catalog that is found on the way up."""
        self.portal_catalog.catalog_object(self, "/".join(self.getPhysicalPath()))


def seed(root: Any, count: int) -> None:
    """A site whose catalog knows the type of each page, and not yet its title."""
    app = root["Application"] = Application()
    app._setObject("portal_setup", SetupTool("portal_setup"))
    app._setObject("portal_catalog", ZCatalog("portal_catalog"))
    app._setObject("pages", Folder("pages"))
    app.portal_catalog.addIndex("portal_type", FieldIndex("portal_type"))
    for number in range(count):
        app.pages._setObject(f"page-{number}", Page(number))
        app.pages[f"page-{number}"].reindexObject()
    app.portal_catalog.addIndex("title", FieldIndex("title"))
