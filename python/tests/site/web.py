"""A process of that site: ``web.py URI`` prints its address."""

from __future__ import annotations

import sys

from application import application
from waitress import create_server

if __name__ == "__main__":
    server = create_server(application(sys.argv[1]), listen="127.0.0.1:0", threads=4)
    print(f"http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()
