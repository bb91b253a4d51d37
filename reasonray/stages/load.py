"""Read a row's images from where the plan says they lie, and make them of the record's size."""

import errno
import os
from pathlib import PurePosixPath

import pyarrow as pa

from reasonray.core import images, in_hand
from reasonray.core.errors import RowError, RunError
from reasonray.core.images import Picture
from reasonray.core.reading import NoImageError, file_name, read_bytes
from reasonray.core.record import Image, Row, reject
from reasonray.core.resizing import Size, resized, within
from reasonray.core.sections import ImagesConfig
from reasonray.stages.stage import Stage

_AWAY = {
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN),
}
"""What a network mount answers that has lost its server."""


class Load(Stage):
    """The file's own bytes into the row; of what is larger than `images.max_side` a smaller copy.

    Encoded anew is also, unless `max_side` is null, what other readers would show otherwise: of a
    colour space that is not sRGB, of grey of 16 bits, HEIC. A remote store or a mount that does
    not answer stops the run (`RunError`): its rows are not to blame.
    """

    name = "load"
    reads = {
        "input_uri": "path, URI or cell of a Parquet file",
        "edited_uri": "likewise, for pairs",
        "root": "the source they are of, where it is local",
    }
    writes = {
        "input_image": "the picture that all later stages see, and the file's name",
        "edited_image": "likewise, for pairs; of the same size",
    }
    rejects = {
        "missing_image": "there is no such file, or only a URL where a file should be",
        "bad_annotation": "what the source says of the picture cannot be read",
        **images.REJECTS,
        "different_shapes": "a pair's two pictures do not have one shape",
    }

    def __init__(self, config: ImagesConfig, *, seed: int) -> None:
        self.config = config

    def process(self, rows: list[Row]) -> None:
        """Load each row's images; a row whose file is bad is rejected and named."""
        for row in rows:
            try:
                self._load(row)
            except RowError as error:  # here, so that its batch is not read a second time
                reject(row, self.name, error.reason, error.detail)

    def _load(self, row: Row) -> None:
        uris = [uri for uri in (row["input_uri"], row.get("edited_uri")) if uri]
        contents = [self._read(uri, row.get("root")) for uri in uris]
        sizes = [picture.pixels.size for _, picture in contents]
        size = min(sizes)
        if not _lie_on_each_other(size, max(sizes)):
            shapes = " and ".join(f"{width}x{height}" for width, height in sizes)
            raise RowError("different_shapes", f"{uris[0]} and {uris[-1]}: {shapes} pixels")
        if self.config.max_side is not None:
            size = within(size, self.config.max_side)
        encoded = [
            self._sized(data, picture, size, file_name(uri))
            for uri, (data, picture) in zip(uris, contents, strict=True)
        ]
        row["input_image"] = encoded[0]
        row["edited_image"] = encoded[1] if len(encoded) > 1 else None

    def _read(self, uri: str, root: str | None) -> tuple[bytes, Picture]:
        try:
            data = read_bytes(uri)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if root and _is_gone(root):
                raise _away(root) from error
            problem = error if isinstance(error, NoImageError) else "there is no such file"
            raise RowError("missing_image", f"{uri}: {problem}") from error
        except (OSError, pa.ArrowInvalid) as error:
            number = getattr(error, "errno", None)
            # EIO is a lost disk or a single bad sector: only the first takes the source away.
            if number in _AWAY or (number == errno.EIO and root and _is_gone(root)):
                raise _away(uri) from error
            problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise RowError("unreadable_image", f"{uri}: {problem}") from error
        limits = self.config
        # The whole URI, so that a rejection names the file.
        whole: Image = {"bytes": data, "path": uri}
        return data, images.read(whole, limits.max_pixels, limits.min_side, limits.max_aspect)

    def _sized(self, data: bytes, picture: Picture, size: Size, name: str | None) -> Image:
        """The source's own bytes if they will do, else encoded anew in the size."""
        is_own = picture.is_faithful or self.config.max_side is None
        if picture.pixels.size == size and is_own:
            in_hand.remember(data, picture.pixels)
            return {"bytes": data, "path": name}
        pixels = resized(picture.pixels, size)
        if picture.is_jpeg:
            return images.encode_jpeg(pixels, name)
        return images.encode_webp(pixels, name and str(PurePosixPath(name).with_suffix(".webp")))


def _lie_on_each_other(smaller: Size, larger: Size) -> bool:
    """Whether two sizes have one shape, to a pixel of the smaller, which rounding may cost."""
    along = smaller.index(max(smaller))
    scale = smaller[along] / larger[along]
    return abs(larger[1 - along] * scale - smaller[1 - along]) <= 1


def _is_gone(root: str) -> bool:
    """Whether a source that had inputs has nothing left, as where its mount was lost.

    The mount point of a lost mount stays, empty; a folder below it is not there any more.
    """
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except (NotADirectoryError, PermissionError):
        return False  # a file; a folder whose files may be read and not be listed
    except OSError:
        return True


def _away(place: str) -> RunError:
    return RunError(
        f"{place}: its storage is not there any more (unmounted, or its server is down); bring "
        "it back"
    )
