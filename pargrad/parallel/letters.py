"""What one machine sends to another, in pieces that Ray carries in the call itself.

Ray makes an object of every argument above 100 kB. An object costs both machines, and the raylets beside them, about
13 ms of processor time; as pieces in the call the same 0.5 MB were seen to cost 4 ms.

Pickle may be used here, since letters go between processes of one Ray, which pickles all arguments and answers itself;
none is ever read from a file.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

PIECE = 90_000  # bytes; Ray's own max_direct_call_object_size is 100 KiB
MOST_BYTES = 8_000_000  # in one call: Ray carries 10 MB, its task_rpc_inlined_bytes_limit, and makes objects of more
ALIGNMENT = 16  # bytes


class Letter(NamedTuple):
    """A pickled message without its arrays; sizes: of their buffers in bytes, which the pieces have one by one."""

    pickled: bytes
    sizes: list[int]


def seal(message: Any) -> tuple[Letter, list[bytes]]:
    """The letter, and the bytes of the message's arrays, cut."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    whole = b"".join(part for view in views for part in (view, bytes(-len(view) % ALIGNMENT)))
    return Letter(pickled, list(map(len, views))), [whole[at : at + PIECE] for at in range(0, len(whole), PIECE)]


def unseal(letter: Letter, pieces: Sequence[bytes]) -> Any:
    """The message again. Its arrays cannot be written to."""
    whole, views, at = memoryview(b"".join(pieces)), [], 0
    for size in letter.sizes:
        views.append(whole[at : at + size])
        at += size + -size % ALIGNMENT
    return pickle.loads(letter.pickled, buffers=views)
