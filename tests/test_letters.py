"""Letters between machines: they come back as they were, in pieces that are small enough."""

import numpy as np
import pytest

from pargrad.parallel.letters import ALIGNMENT, PIECE, seal, unseal


@pytest.mark.parametrize("counts", [(), (0,), (1,), (3, 7), (100_000, 1, 50_001)])
def test_a_message_is_the_same_again(counts):
    generator = np.random.default_rng(0)
    message = [generator.standard_normal(count, np.float32) for count in counts], {"reached": np.ones((3, 5), bool).T}
    letter, pieces = seal(message)
    assert max(map(len, pieces)) <= PIECE
    arrays, others = unseal(letter, pieces)
    assert [array.tobytes() for array in arrays] == [array.tobytes() for array in message[0]]
    assert others["reached"].tobytes() == message[1]["reached"].tobytes()
    assert all(array.ctypes.data % ALIGNMENT == 0 for array in arrays if array.size)


def test_a_message_without_arrays_needs_no_pieces():
    letter, pieces = seal((3, "first"))
    assert pieces == []
    assert unseal(letter, pieces) == (3, "first")
