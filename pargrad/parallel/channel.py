"""A channel is one end of a Unix socket between driver and worker: pickled messages, and descriptors beside them.

Both ends belong to one user on one machine, which each checks of the other; nothing that is unpickled here comes
from a file or a network.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import socket
import struct
import sys
import tempfile
from multiprocessing.connection import Connection
from typing import Any

ABSTRACT = sys.platform == "linux"
# Channels are kept until they are closed. Of one that is garbage together with the trainer that would close it, the
# collector might end the connection first, and the second end would be that of somebody else's descriptor.
OPEN: set[Any] = set()
SEND_SECONDS = 30  # after which a worker that takes nothing more is as one that is gone


class Channel:
    """Messages both ways. A peer that has ended is an EOFError."""

    def __init__(self, endpoint: socket.socket):
        check_peer(endpoint)
        endpoint.setblocking(True)
        self.socket = endpoint
        self.connection = Connection(os.dup(endpoint.fileno()))
        OPEN.add(self)

    def send(self, message: Any) -> None:
        self.send_packed(pickle.dumps(message, protocol=5))

    def send_packed(self, packed: bytes) -> None:
        """Sends a message that was pickled once for several peers."""
        with closed_is_end():
            self.connection.send_bytes(packed)

    def receive(self) -> Any:
        with closed_is_end():
            return pickle.loads(self.connection.recv_bytes())

    def send_descriptor(self, descriptor: int) -> None:
        with closed_is_end():
            socket.send_fds(self.socket, [b"d"], [descriptor])

    def receive_descriptor(self) -> int:
        with closed_is_end():
            data, descriptors, _, _ = socket.recv_fds(self.socket, 1, 1)
        if not data:
            raise EOFError
        return descriptors[0]

    def close(self) -> None:
        OPEN.discard(self)
        self.connection.close()
        self.socket.close()


@contextlib.contextmanager
def closed_is_end() -> Any:
    try:
        yield
    except OSError as error:  # also a message that breaks off in the middle
        raise EOFError(str(error)) from None


def check_peer(endpoint: socket.socket) -> None:
    """Refuses a peer that is another user's process."""
    if hasattr(socket, "SO_PEERCRED"):
        _, user, _ = struct.unpack("3i", endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():
            endpoint.close()
            raise PermissionError(f"refused a connection from user {user}: expected {os.getuid()}")


class Listener:
    """Where workers connect: on Linux an abstract name, which leaves no file behind; elsewhere a private directory."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.directory = None if ABSTRACT else tempfile.mkdtemp(prefix="pargrad-")
        self.address = f"\0pargrad-{secrets.token_hex(16)}" if ABSTRACT else os.path.join(str(self.directory), "socket")
        self.socket.bind(self.address)
        self.socket.listen(128)

    def accept(self, timeout: float) -> Channel:
        """The next worker of this user; TimeoutError when none came."""
        self.socket.settimeout(timeout)
        endpoint, _ = self.socket.accept()
        # A worker may be stopped when much is sent to it. A driver may be, too, and is then waited for.
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        return Channel(endpoint)

    def close(self) -> None:
        self.socket.close()
        if self.directory is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)
                os.rmdir(self.directory)


def connect(address: str) -> Channel:
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    endpoint.connect(address)
    return Channel(endpoint)
