"""What an administrator does in the ZMI: takes a transaction back, looks at a history, packs."""

import json

import transaction

told = {"added": sorted(name for name in app.objectIds("Folder"))}
app["one-0"].manage_changeProperties(title="changed")
transaction.get().note("changed")
transaction.commit()
database = app.unrestrictedTraverse("Control_Panel/Database/main")
undoable = database.undoable_transactions(0, 20)
told["newest"] = undoable[0]["description"]
database.manage_undo_transactions(transaction_info=(undoable[0]["id"],))
app._p_jar.sync()
told["title"] = app["one-0"].title
told["history"] = len(app._p_jar.db().history(app["one-0"]._p_oid, 10))
told["size"] = database.database_size()
database.manage_pack(days=-1)
app._p_jar.sync()
told["packed"] = {
    "history": len(app._p_jar.db().history(app["one-0"]._p_oid, 10)),
    "added": len(app.objectIds("Folder")),
    "undoable": len(database.undoable_transactions(0, 20)),
}
print(json.dumps(told))
