"""IDX, the format of MNIST's files: two zero bytes, a type code, the rank, the shape, the values; all big-endian."""

import gzip
import io
import math
import os
import struct
import zlib

import numpy as np

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_BYTES = 1 << 30  # a header may claim this much; the largest file of MNIST has 47,040,016 bytes
MAX_RANK = 32  # numpy's own limit, before its version 2


class DataError(ValueError):
    """Data that cannot be found or used. The message says where, what was got, what was expected and what to do."""


def read_idx(
    source: str | os.PathLike[str] | bytes, *, name: str = "", sha256: str = "", max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """Read one IDX file, gzipped or not: its first two bytes tell, not its name.

    Args:
        source: the path, or the bytes themselves.
        name: what error messages call the source; the path if not given.
        sha256: the hexadecimal digest that the unpacked file must have; not checked if not given.
        max_bytes: the most that the header may claim. Memory and decompression are bounded by the claim.

    Returns:
        A writable array with the file's shape and dtype (uint8, int8, int16, int32, float32 or float64), native order.

    Raises:
        DataError: the contents are damaged, truncated, too long, not IDX, or have another digest.
        OSError: the file cannot be opened.

    Source: the section on the IDX format in LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    name = name or ("the given bytes" if isinstance(source, bytes) else os.fspath(source))
    with io.BufferedReader(io.BytesIO(source)) if isinstance(source, bytes) else open(source, "rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        try:
            return _read(gzip.GzipFile(fileobj=file) if packed else file, name, sha256, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{name}: got damaged gzip ({error}), expected a whole file. Fetch it again.") from error


def _read(stream: io.BufferedIOBase, name: str, sha256: str, max_bytes: int) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(
            f"{name}: got a file that starts with the bytes '{magic.hex(' ')}', expected an IDX file, which starts "
            "with '00 00', a type code and a rank. Give MNIST's own files; other formats must be converted first."
        )
    code, rank = magic[2:]
    if code not in DTYPES or rank > MAX_RANK:
        raise DataError(
            f"{name}: got type code 0x{code:02x} and rank {rank}, expected a code out of "
            f"{', '.join(f'0x{known:02x}' for known in DTYPES)} and at most rank {MAX_RANK}. Fetch or convert it again."
        )
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{name}: got {len(sizes)} bytes of shape, expected {4 * rank}. Fetch it again.")
    shape, dtype = struct.unpack(f">{rank}I", sizes), np.dtype(DTYPES[code])
    # An empty array may still have sizes whose product numpy refuses: each counts as one at least.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > max_bytes:
        raise DataError(
            f"{name}: got a header that claims shape {shape} of {dtype.name}, expected {max_bytes:,} bytes at most. "
            "Fetch it again, or pass a larger max_bytes if the file is meant to be that large."
        )
    values = np.empty(shape, dtype)
    payload = values.reshape(-1).view(np.uint8)
    got = stream.readinto(payload.data)
    if got < payload.size:
        raise DataError(f"{name}: got {got:,} bytes of values, expected {payload.size:,}. Fetch it again.")
    if stream.read(1):  # at the end of a gzip file this read is also what compares its CRC
        raise DataError(f"{name}: got more bytes of values than the expected {payload.size:,}. Fetch it again.")
    if sha256:
        import hashlib

        digest = hashlib.sha256(magic + sizes)
        digest.update(payload.data)
        if digest.hexdigest() != sha256:
            raise DataError(f"{name}: got sha256 {digest.hexdigest()} (unpacked), expected {sha256}. Fetch it again.")
    return values.astype(dtype.newbyteorder("="), copy=False)
