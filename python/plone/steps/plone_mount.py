"""A database mounted inside of a site: content is made there, moved there, changed in one transaction with the site's, and undone."""

import json
import os

import transaction
from Acquisition import aq_base
from OFS.Application import Application
from plone.app.textfield.value import RichTextValue
from plone.dexterity.utils import createContent
from plone.namedfile.file import NamedBlobFile
from Products.ZODBMountPoint.MountedObject import MountedObject, setMountPoint
from zope.component.hooks import setSite

told = {}
site = app.Plone
setSite(site)
# The folder is made in its database first: a type of Plone's needs more than the class that a mount point can name.
app._p_jar.get_connection("archive").root()["Application"] = holder = Application()
transaction.savepoint()
holder._setOb("archive", aq_base(createContent("Folder", id="archive", title="Archive")))
transaction.commit()
# What the form of the mount points does, but for a folder that is a BTree, as Plone's are: in such a one the form puts a stand-in first, and
# then cannot replace it (Products.ZODBMountPoint 3.0).
mount = MountedObject("/Plone/archive")
app._p_jar.add(mount)
site._setOb("archive", mount)
setMountPoint(site, "archive", mount)
archive = site.archive
archive.reindexObject()
transaction.commit()
databases = [jar._p_jar.db() for jar in (site, archive)]
told["databases"] = [database.database_name for database in databases]


def found(**query):
    return sorted(brain.getPath() for brain in site.portal_catalog.unrestrictedSearchResults(path="/Plone/archive", **query))


archive.invokeFactory("Document", "paper", title="Paper")
archive.paper.text = RichTextValue("<p>kept</p>", "text/html", "text/html")
site.invokeFactory("File", "report", title="Report")
site.report.file = NamedBlobFile(data=os.urandom(200_000), filename="report.bin")
site.report.reindexObject()
transaction.commit()

archive.manage_pasteObjects(site.manage_cutObjects(["report"]))
transaction.commit()


def place(name):
    ours = [one._p_jar.db().database_name for one in (archive[name], archive[name].file._blob)]
    return [*ours, len(archive[name].file.data)]


# What is cut keeps its record where it was made, and the folder gets a reference into that database; what is made here is here.
told["moved"] = place("report")
archive.invokeFactory("File", "minutes", title="Report of the meeting")
transaction.commit()
archive.minutes.file = NamedBlobFile(data=os.urandom(100_000), filename="minutes.bin")
archive.minutes.reindexObject()
transaction.commit()
told["made"] = place("minutes")
told["found"] = found(Title="Report")

# One transaction in both; what it did in the mounted one is taken back, and the catalog with it.
site.title = "Both"
archive.paper.title = "Both"
archive.paper.reindexObject()
transaction.get().note("both")
transaction.commit()
control = app.unrestrictedTraverse("Control_Panel/Database/archive")
newest = control.undoable_transactions(0, 1)[0]
assert "both" in newest["description"], newest
control.manage_undo_transactions(transaction_info=(newest["id"],))
app._p_jar.sync()
archive.paper.reindexObject()
transaction.commit()
brains = site.portal_catalog.unrestrictedSearchResults(path="/Plone/archive/paper")
told["undone"] = [site.title, archive.paper.title, [brain.Title for brain in brains]]

# Savepoints in both, one of them taken back, and then all.
site.title = archive.paper.title = "kept so far"
point = transaction.savepoint()
site.title = archive.paper.title = "not at all"
archive.invokeFactory("Document", "draft", title="Draft")
transaction.savepoint(optimistic=True)
point.rollback()
assert (site.title, archive.paper.title, "draft" in archive) == ("kept so far", "kept so far", False)
transaction.doom()
transaction.abort()
told["aborted"] = [site.title, archive.paper.title]
transaction.abort()
app._p_jar.close()
for database in databases:
    database.close()
print(json.dumps(told))
