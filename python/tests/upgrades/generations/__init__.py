"""For zope.generations."""
