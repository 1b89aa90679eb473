"""Owns the benchmark of ZODB on Zeolite: ``zeolite bench zodb``, or ``python -m zeolite_bench``.

It is a package of its own, since it stores objects of its classes, and the storage takes none of a class ``zeolite.*``.
"""
