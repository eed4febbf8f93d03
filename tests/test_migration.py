# SPDX-License-Identifier: MIT
"""That a migration is waited for to its own end, with a monitor that is made up."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import HostError
from lab.guest import qmp, template

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETING = {
    "QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}
}
ENDS = {"migrate-incoming": ["setup", "active", "completed"], "migrate": ["active", "failed"]}


def serve(sock: socket.socket) -> None:
    """Be a QEMU whose migration in succeeds and whose migration out does not."""

    def say(message: dict[str, Any]) -> None:
        sock.sendall(json.dumps(message).encode() + b"\n")

    with sock:
        say(GREETING)
        while data := sock.recv(4096):  # one command each: the next is not sent before this one's answer
            command = json.loads(data)
            result = {"error-desc": "no space left"} if command["execute"] == "query-migrate" else {}
            say({"return": result, "id": command.get("id")})
            for status in ENDS.get(command["execute"], ()):
                stamp = {"seconds": 0, "microseconds": 0}
                say({"event": "MIGRATION", "data": {"status": status}, "timestamp": stamp})


@pytest.fixture
def process() -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(theirs,), daemon=True)
    server.start()
    monitor = qmp.Qmp(ours)
    qmp.run(monitor.connect_async(), 5.0)
    yield SimpleNamespace(qmp=monitor)
    qmp.run(monitor.close_async(), 5.0)
    server.join(5.0)


def test_a_guest_that_was_restored_is_frozen_by_a_migration_of_its_own(process: Any) -> None:
    qmp.run(template._migrate(process, "migrate-incoming", Path("/t/state"), "restoring"), 5.0)
    with pytest.raises(HostError, match="freezing a guest failed: no space left"):
        qmp.run(template._migrate(process, "migrate", Path("/b/state"), "freezing"), 5.0)
