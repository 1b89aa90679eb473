"""Owns how a database is addressed, and what a connection to it is opened with: options are read here and nowhere else.

    connect("host:port", ca=...)       native         keywords
    <zeolite> of zope.conf             native         keys of a section, which ZConfig has read
    zeolite://host:port/NAME?ca=...    parsed         words of a query: each has its reader in ``READERS``

There is no word for a token itself: addresses are shown in logs and errors. It comes from ``token_file``, or from where the client library
looks for it (docs/security.md).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import _zeolite
from .errors import BadValue

_BOOLEANS = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
_UNITS = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}

Reader = Callable[[str], Any]

#: Seconds: some thirty years. Above it no clock can tell when the time is over.
_TIMEOUT_MAX = 1e9
_SIZE_MAX = 1 << 62
#: Of a file of the cache.
_FILE_MIN, _FILE_MAX = 1 << 20, 32 << 30


def boolean(text: str) -> bool:
    """Yes or no."""
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"{text!r} is neither true nor false")
    return _BOOLEANS[text.lower()]


def size(text: str) -> int:
    """Bytes, as in a configuration section: ``256MB``."""
    found = re.fullmatch(r"(\d+)\s*(KB|MB|GB|)", text.strip().upper())
    if found is None:
        raise ValueError(f"{text!r} is no size like 256MB")
    return int(found[1]) * _UNITS[found[2]]


#: What a connection is opened with, as a URI says it.
READERS: Mapping[str, Reader] = {
    "ca": str,
    "cache_dir": str,
    "cache_file_size": size,
    "cache_size": size,
    "cert": str,
    "client_label": str,
    "key": str,
    "role": str,
    "token_file": str,
    "wait": boolean,
    "wait_timeout": float,
}


def native(
    address: str | Sequence[str],
    *,
    database: str = "",
    role: str = "",
    client_label: str | None = None,
    cache_size: int = 64 << 20,
    cache_dir: str | None = None,
    cache_file_size: int = 256 << 20,
    wait: bool = True,
    wait_timeout: float = 30,
    token: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> _zeolite.Database:
    """The connection that a process shares."""
    # Not a number is not between them either.
    if not 0 < wait_timeout <= _TIMEOUT_MAX:
        raise BadValue(f"wait_timeout is {wait_timeout!r}; give seconds, more than 0 and at most {_TIMEOUT_MAX:.0f}")
    check_size("cache_size", cache_size)
    if not _FILE_MIN <= cache_file_size <= _FILE_MAX:
        raise BadValue(f"cache_file_size is {cache_file_size}; give a number of bytes from {_FILE_MIN} to {_FILE_MAX}")
    addresses = [one for one in re.split(r"[\s,]+", address) if one] if isinstance(address, str) else list(address)
    return _zeolite.Database(
        addresses,
        database=database,
        role=role,
        name=client_label,
        cache_bytes=cache_size,
        cache_dir=cache_dir,
        cache_file_bytes=cache_file_size,
        wait=wait,
        timeout_ms=max(1, int(wait_timeout * 1000)),
        token=token,
        token_file=token_file,
        ca=ca,
        cert=cert,
        key=key,
    )


def check_size(name: str, size: int) -> None:
    """Refuses a number of bytes that cannot be."""
    if not 0 <= size <= _SIZE_MAX:
        raise BadValue(f"{name} is {size}; give a number of bytes from 0 to {_SIZE_MAX}")


#: The words of ``native`` behind the address.
OPTIONS = tuple(inspect.signature(native).parameters)[1:]


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses words that no connection is opened with."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise BadValue(f"{', '.join(unknown)} is nothing that a connection is opened with; that are {', '.join(OPTIONS)}")


def parsed(uri: str, readers: Mapping[str, Reader] = READERS) -> tuple[list[str], str, dict[str, Any], dict[str, str]]:
    """The servers, the database, the words of the query that have a reader, and those that have none."""
    parts = urlsplit(uri)
    servers = [address for address in parts.netloc.split(",") if address]
    if parts.scheme != "zeolite" or not servers:
        raise ValueError(f"{uri!r} names no server; write zeolite://host:port/")
    if "@" in parts.netloc:
        # It is not shown: there may be a password in it.
        raise ValueError("a URI names no user: leave out what stands before the @, and say with token_file where his token is")
    said: dict[str, Any] = {}
    left: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in readers:
            try:
                said[name] = readers[name](value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        else:
            left[name] = value
    return servers, unquote(parts.path.strip("/")), said, left


def opened(uri: str, role: str) -> _zeolite.Database:
    """A connection by a URI, or by ``host:port``, for who acts as ``role`` unless the URI says otherwise."""
    servers, database, said, left = parsed(uri if "://" in uri else f"zeolite://{uri}")
    if left:
        known = ", ".join(READERS)
        raise BadValue(f"{', '.join(left)} in {uri!r} is nothing that a connection is opened with; that are {known}")
    return native(servers, database=database, **{"role": role, **said})
