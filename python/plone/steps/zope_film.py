"""A title and a blob at the root."""

import json

import transaction
from ZODB.blob import Blob

app.title = "theirs"
app.film = Blob(b"x" * 100_000)
transaction.commit()
database = app._p_jar.db()
app._p_jar.close()
database.close()
print(json.dumps(None))
