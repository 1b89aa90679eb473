"""What comes in the life of a site: an image, something that is taken back, an upgrade step, a pack."""

import json
import struct
import zlib

import transaction
from plone.namedfile.file import NamedBlobImage
from zope.component.hooks import setSite

site = app.Plone
setSite(site)
database = app._p_jar.db()


def content():
    brains = site.portal_catalog.unrestrictedSearchResults(path={"query": "/Plone/talks", "depth": 1})
    files = [site.talks[name].file for name in site.talks.objectIds() if site.talks[name].portal_type == "File"]
    return {
        "content": len(site.talks.objectIds()),
        "catalog": len(brains),
        "titles": sum(brain.Title == site.talks[brain.getId].title for brain in brains),
        "edited": len(site.portal_catalog.unrestrictedSearchResults(Title="Edited", path="/Plone/talks")),
        "bytes": sum(len(file.data) for file in files),
    }


def png(width, height):
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(pixels)) + part(b"IEND", b"")


told = {"before": content()}

site.talks.invokeFactory("Image", "photo", title="Photo")
site.talks.photo.image = NamedBlobImage(data=png(640, 480), filename="photo.png")
site.talks.photo.reindexObject()
transaction.get().note("uploaded photo")
transaction.commit()
scale = site.talks.photo.restrictedTraverse("@@images").scale("image", scale="mini")
told["image"] = site.talks.photo.image.getImageSize()
told["scale"] = [scale.width, scale.height]
transaction.commit()

site.talks["one-1"].title = "A mistake"
site.talks["one-1"].reindexObject()
transaction.get().note("mistake")
transaction.commit()
control = app.unrestrictedTraverse("Control_Panel/Database/main")
newest = control.undoable_transactions(0, 1)[0]
told["undone"] = newest["description"]
control.manage_undo_transactions(transaction_info=(newest["id"],))
app._p_jar.sync()
told["title"] = site.talks["one-1"].title
told["found"] = len(site.portal_catalog.unrestrictedSearchResults(Title="mistake"))

setup = site.portal_setup
setup.setLastVersionForProfile("plone.app.contenttypes:default", "1000")
transaction.commit()
setup.upgradeProfile("plone.app.contenttypes:default")
transaction.commit()
told["upgraded"] = not setup.listUpgrades("plone.app.contenttypes:default")

told["objects"] = len(database.storage)
transaction.begin()
control.manage_pack(days=-1)
app._p_jar.sync()
database.cacheMinimize()
told["packed"] = len(database.storage)
told["after"] = content()
transaction.abort()
print(json.dumps(told))
