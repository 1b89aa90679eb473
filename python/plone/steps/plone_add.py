"""An editor: adds documents and files to one folder, as others do, edits them, searches; what is in the way is done again."""

import json
import os
import sys

import transaction
from plone.app.textfield.value import RichTextValue
from plone.namedfile.file import NamedBlobFile
from transaction.interfaces import TransientError
from zope.component.hooks import setSite
from zope.event import notify
from zope.lifecycleevent import ObjectModifiedEvent

prefix, count, retries = sys.argv[4], int(sys.argv[5]), 0


def attempt(work):
    global retries
    while True:
        try:
            transaction.begin()
            setSite(app.Plone)
            result = work(app.Plone)
            transaction.commit()
            return result
        except TransientError:
            transaction.abort()
            retries += 1


def folder(site):
    if "talks" not in site:
        site.invokeFactory("Folder", "talks", title="Talks")
        site.talks.reindexObject()


def add(name, number):
    def work(site):
        if number % 5 == 0:
            site.talks.invokeFactory("File", name, title=f"File {name}")
            data = os.urandom(200_000)
            site.talks[name].file = NamedBlobFile(data=data, filename=f"{name}.bin")
        else:
            site.talks.invokeFactory("Document", name, title=f"Talk {name}", subject=[prefix])
            site.talks[name].text = RichTextValue(f"<p>by {prefix}</p>", "text/html", "text/html")
        site.talks[name].reindexObject()

    return work


def edit(name):
    def work(site):
        site.talks[name].title = f"Edited {name}"
        notify(ObjectModifiedEvent(site.talks[name]))

    return work


attempt(folder)
for number in range(count):
    attempt(add(f"{prefix}-{number}", number))
for number in range(0, count, 3):
    attempt(edit(f"{prefix}-{number}"))
found = attempt(lambda site: len(site.portal_catalog.unrestrictedSearchResults(SearchableText=prefix, path="/Plone/talks")))
print(json.dumps({"retries": retries, "found": found}))
database = app._p_jar.db()
transaction.abort()
app._p_jar.close()
database.close()
