"""A mounted database: content in it, a reference into it from the root, a move between the two, undo in each, and packs of both."""

import json
import time

import transaction
from Acquisition import aq_base
from OFS.Folder import Folder
from Products.ZODBMountPoint.MountedObject import getMountPoint, manage_addMounts

told = {}
manage_addMounts(app, paths=("/archive",))
transaction.commit()
archive = app.archive
main_db, archive_db = app._p_jar.db(), archive._p_jar.db()
told["databases"] = [main_db.database_name, archive_db.database_name]
told["mounted"] = getMountPoint(archive) is not None

for name in ("old", "lost"):
    archive._setObject(name, Folder(name))
    archive[name].title = f"{name} in the archive"
app.manage_addFolder("here")
transaction.commit()
told["jars"] = [app[name]._p_jar.db().database_name for name in ("here", "archive")]

# The root keeps a reference to an object of the other database, which its own database forgets.
app.pinned = aq_base(archive.old)
transaction.get().note("pinned")
transaction.commit()
archive._delObject("old")
archive._delObject("lost")
transaction.get().note("forgotten")
transaction.commit()

# One transaction that writes in both.
app.here.title = "both"
archive.title = "both"
transaction.get().note("both")
transaction.commit()
told["both"] = [db.undoLog(0, 1)[0]["description"] for db in (main_db, archive_db)]

# The administrator takes it back in one of them, as the ZMI does.
control = app.unrestrictedTraverse("Control_Panel/Database")
newest = control["archive"].undoable_transactions(0, 1)[0]
control["archive"].manage_undo_transactions(transaction_info=(newest["id"],))
app._p_jar.sync()
told["undone"] = [app.here.title, app.archive.title]

told["before"] = [len(main_db.storage), len(archive_db.storage)]
for name in ("main", "archive"):
    control[name].manage_pack(days=-1)
told["packed"] = [len(main_db.storage), len(archive_db.storage)]
app._p_jar.sync()
for db in (main_db, archive_db):
    db.cacheMinimize()
told["pinned"] = app.pinned.title
told["pinned in"] = app.pinned._p_jar.db().database_name

# Both at one time are one transaction: one that cannot commit in one of them leaves nothing in the other.
app.here.title = "half"
archive = app.archive
archive.unpicklable = lambda: None
try:
    transaction.commit()
    told["half"] = "committed"
except Exception as error:
    transaction.abort()
    told["half"] = type(error).__name__
app._p_jar.sync()
told["after half"] = [app.here.title, hasattr(aq_base(app.archive), "unpicklable")]
transaction.abort()
app._p_jar.close()
for db in (main_db, archive_db):
    db.close()
print(json.dumps(told))
