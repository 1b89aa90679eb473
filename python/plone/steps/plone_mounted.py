"""What a mounted database has after a restart of the server, and after packs of both; then its content goes back into the site."""

import json

import transaction
from zope.component.hooks import setSite

site = app.Plone
setSite(site)
databases = [jar._p_jar.db() for jar in (site, site.archive)]


def content():
    found = site.portal_catalog.unrestrictedSearchResults(path={"query": "/Plone/archive", "depth": 1})
    files = [len(site.archive[name].file.data) for name in ("report", "minutes")]
    return [sorted(site.archive.objectIds()), files, sorted(brain.getPath() for brain in found)]


told = {"content": content()}
transaction.abort()
for name in ("main", "archive"):
    app.unrestrictedTraverse(f"Control_Panel/Database/{name}").manage_pack(days=-1)
app._p_jar.sync()
for database in databases:
    database.cacheMinimize()
told["packed"] = content()

site.manage_pasteObjects(site.archive.manage_cutObjects(["paper"]))
transaction.commit()
told["back"] = [*content(), site.paper._p_jar.db().database_name]
transaction.abort()
app._p_jar.close()
for database in databases:
    database.close()
print(json.dumps(told))
