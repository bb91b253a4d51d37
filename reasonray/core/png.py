"""PNG's own structure: a file without the parts at which Pillow refuses a good picture."""

import struct
import zlib

from reasonray.core.signatures import kind_of


def without_texts(data: bytes) -> bytes | None:
    """A PNG without its texts and without a profile that Pillow refuses; None: nothing to omit.

    Pillow refuses the whole picture where a text or a profile has more than 1 MB.
    """
    start = 8
    if kind_of(data) != "PNG":
        return None
    pieces = [data[:start]]
    while start + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        chunk = data[start : start + 12 + length]
        if not (kind in (b"tEXt", b"zTXt", b"iTXt") or (kind == b"iCCP" and _is_huge(chunk))):
            pieces.append(chunk)
        start += len(chunk)
    lean = b"".join([*pieces, data[start:]])
    return lean if len(lean) < len(data) else None


def _is_huge(chunk: bytes) -> bool:
    """Whether the profile of a chunk iCCP is damaged, or has a megabyte or more."""
    _, _, packed = chunk[8:-4].partition(b"\0")
    try:
        return len(zlib.decompressobj().decompress(packed[1:], 1 << 20)) == 1 << 20
    except zlib.error:
        return True
