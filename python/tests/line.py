"""Owns the line between a storage and its server: it can swallow what one side sends, and be cut."""

from __future__ import annotations

import socket
import threading


class Line:
    """Accepts at ``address`` and carries to the server; ``close`` it."""

    def __init__(self, server: str):
        host, _, port = server.rpartition(":")
        self.server = (host, int(port))
        self.deaf = False  # what the server sends is swallowed
        self.mute = False  # what the client sends is swallowed
        self.swallowed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.server)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._carry, args=(client, server, "mute"), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, "deaf"), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, flag: str) -> None:
        try:
            while data := source.recv(1 << 16):
                if getattr(self, flag):
                    self.swallowed.set()
                else:
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def open(self) -> None:
        """Carries everything again, on new connections."""
        self.deaf = self.mute = False
        self.cut()

    def cut(self) -> None:
        """Ends all connections."""
        for end in self._sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
        self._sockets.clear()

    def close(self) -> None:
        """No more connections."""
        self._listener.close()
        self.cut()
