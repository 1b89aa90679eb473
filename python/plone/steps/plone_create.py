"""Makes a Plone site with its content types."""

import json

import transaction
from Products.CMFPlone.factory import addPloneSite

site = addPloneSite(
    app, "Plone", title="Site", extension_ids=("plone.app.contenttypes:default",)
)
transaction.commit()
database = app._p_jar.db()
print(json.dumps({"objects": len(database.storage), "version": site.portal_migration.getInstanceVersion()}))
app._p_jar.close()
database.close()
