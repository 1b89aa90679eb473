"""Adds folders to the root folder, each in a transaction; what is in the way is done again."""

import json
import sys

import transaction
from transaction.interfaces import TransientError

prefix, count, retries = sys.argv[4], int(sys.argv[5]), 0
for number in range(count):
    while True:
        try:
            transaction.begin()
            app.manage_addFolder(f"{prefix}-{number}", f"Folder {number} of {prefix}")
            transaction.get().note(f"added {prefix}-{number}")
            transaction.commit()
            break
        except TransientError:
            transaction.abort()
            retries += 1
# A process that ends without this holds what it read from pack until its lease is over.
database = app._p_jar.db()
app._p_jar.close()
database.close()
print(json.dumps({"retries": retries}))
