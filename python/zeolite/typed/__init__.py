"""Objects of Python's own, without ZODB: classes with annotated fields, collections, transactions. docs/python.md is the page for users.

    database      connecting, transactions that are repeated, snapshots
    space         a transaction, a snapshot: objects, and what is written
    root          the names that everything begins with
    collections   counters, maps, sets, indexes; ``lines``: lists and queues
    objects       classes and their fields, versions and upgrades
    annotations   which shape a type has: as a value (``shapes``), as a key (``keys``)
    encoding      CBOR and the numbers of postcard

What is above may name what is below.
"""
