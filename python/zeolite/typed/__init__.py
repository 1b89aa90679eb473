"""Objects of Python's own, without ZODB: classes with annotated fields, collections, transactions. docs/python.md is the page for users.

    database      connecting, transactions that are repeated, snapshots
    space         a transaction, a snapshot: objects, and what is written
    root          the names that everything begins with
    savepoints    what a transaction had written at a moment
    collections   maps, sets, indexes; ``lines``: lists and queues; ``numbers``: counters, extremes; ``small``: sets and lists in one record
    blobs         files beside the objects
    keepers       who uses a transaction, and how he waits
    objects       classes and their fields, versions and upgrades
    annotations   which shape a type has: as a value (``shapes``), as a key (``keys``)
    encoding      CBOR and the numbers of postcard

What is above may name what is below.
"""
