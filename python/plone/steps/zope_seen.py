"""A second instance, which the server lets read only: what it sees, and what happens when it writes all the same."""

import json

import transaction
from ZODB.POSException import ReadOnlyError

told = {
    "title": app.title,
    "film": len(app.film.open().read()),
    "read-only": app._p_jar.db().storage.isReadOnly(),
}
app.title = "mine"
try:
    transaction.commit()
except ReadOnlyError as error:
    told["refused"] = str(error)
transaction.abort()
told["then"] = app.title
transaction.abort()
database = app._p_jar.db()
app._p_jar.close()
database.close()
print(json.dumps(told))
