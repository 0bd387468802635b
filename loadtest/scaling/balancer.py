"""HAProxy in front of the pods, with one place for each pod that there may be; places open and close as pods do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtest.errors import BadInput
from loadtest.local import free_port

START_TIMEOUT_SECONDS = 10.0
CONFIGURATION = """
global
    maxconn 8000
    stats socket {admin} mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
    # A failed request is a failed request: nothing is sent a second time.
    retries 0
frontend http
    bind 127.0.0.1:{port}
    default_backend pods
backend pods
    balance leastconn
    http-reuse safe
    server-template pod- {places} 127.0.0.1:9 disabled
"""


class Balancer:
    """A running HAProxy."""

    def __init__(self, admin: Path, port: int, places: int) -> None:
        self.host = f"http://127.0.0.1:{port}"
        self._admin = admin
        self._free = [f"pod-{number}" for number in range(1, places + 1)]
        self._taken: dict[str, str] = {}

    def follow(self, wanted: Mapping[str, str]) -> None:
        """Send requests to these pods (name -> address:port) and to no others."""
        for name in [name for name in self._taken if name not in wanted]:
            place = self._taken.pop(name)
            self.say(f"set server pods/{place} state maint")
            self._free.append(place)
        for name, address in wanted.items():
            if name not in self._taken and self._free:
                place = self._taken[name] = self._free.pop(0)
                host, _, port = address.rpartition(":")
                self.say(f"set server pods/{place} addr {host} port {port}")
                self.say(f"set server pods/{place} state ready")

    def say(self, command: str) -> str:
        """Send a command to its admin socket; gives its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_TIMEOUT_SECONDS)
            connection.connect(str(self._admin))
            connection.sendall(f"{command}\n".encode())
            parts = iter(lambda: connection.recv(65536), b"")
            return b"".join(parts).decode()


@contextmanager
def running_balancer(folder: Path, places: int) -> Generator[Balancer]:
    """Run HAProxy, from PATH or HAPROXY_BIN. Raises BadInput without one."""
    program = os.environ.get("HAPROXY_BIN") or shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise BadInput("haproxy: is not installed: it balances the proof's pods (Debian: apt-get install haproxy)")
    port, admin, configuration = free_port(), folder / "haproxy.sock", folder / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(admin=admin, port=port, places=places), encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        try:
            process = subprocess.Popen([program, "-db", "-f", str(configuration)], stdout=log, stderr=log)
        except OSError as error:
            raise BadInput(f"haproxy: {program} cannot be run: {error.strerror}") from None
    try:
        last = time.monotonic() + START_TIMEOUT_SECONDS
        while not admin.exists():
            if process.poll() is not None or time.monotonic() > last:
                words = " ".join((folder / "haproxy.log").read_text(encoding="utf-8", errors="replace")[-300:].split())
                raise BadInput(f"haproxy did not start: {words}")
            time.sleep(0.05)
        yield Balancer(admin, port, places)
    finally:
        process.kill()
        process.wait()
