"""Owns the section ``<zeolite>`` of ZConfig files (zope.conf): ``%import zeolite.zodb`` makes it known; component.xml has its keys."""

from __future__ import annotations

from typing import Any

from ZODB.config import BaseConfig

from .storage import Storage


class Section(BaseConfig):
    """A section as it was read."""

    def open(self) -> Storage:
        """The storage."""
        section: Any = self.config
        return Storage(
            section.servers,
            section.database,
            name=section.name,
            client_label=section.client_label,
            cache_size=section.cache_size,
            cache_dir=section.cache_dir,
            cache_file_size=section.cache_file_size,
            wait=section.wait,
            wait_timeout=section.wait_timeout,
            read_only=section.read_only,
            read_only_fallback=section.read_only_fallback,
            server_sync=section.server_sync,
            pack_gc=section.pack_gc,
            role=section.role,
            token=section.token,
            token_file=section.token_file,
            ca=section.ca,
            cert=section.cert,
            key=section.key,
            blob_dir=section.blob_dir,
            blob_cache_size=section.blob_cache_size,
        )
