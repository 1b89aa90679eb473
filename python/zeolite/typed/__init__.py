"""Objects of Python's own, without ZODB: classes with annotated fields, collections, transactions. docs/python.md is the page for users.

    database      connecting, transactions that are repeated, snapshots
    transaction   what is written, and committed
    space         objects at one state of the database; snapshots
    root          the names that everything begins with
    savepoints    what a transaction had written at a moment
    settling      when entries of kept indexes are written
    collections   maps, sets, indexes; ``lines``: lists and queues; ``numbers``: counters, extremes; ``small``: sets and lists in one record
    blobs         files beside the objects
    keepers       who uses a transaction, and how he waits
    objects       classes, versions and upgrades; ``fields``; ``kept``: the indexes that they ask for
    annotations   which shape a type has: as a value (``shapes``), as a key (``keys``)
    encoding      CBOR and the numbers of postcard

What is above may name what is below.
"""
