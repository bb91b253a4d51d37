"""Read a row's images from where the plan says they lie."""

import errno
import os

import pyarrow as pa

from reasonray.core import images
from reasonray.core.errors import RowError, RunError
from reasonray.core.reading import file_name, read_bytes
from reasonray.core.record import Image, Row
from reasonray.core.sections import ImagesConfig
from reasonray.stages.stage import Stage

_AWAY = {
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN),
}
"""What a network mount answers that has lost its server."""


class Load(Stage):
    """Bytes into the row, untouched, after seeing that they can be decoded.

    A remote store or a mount that does not answer stops the run (`RunError`): its rows are not to
    blame.
    """

    name = "load"
    reads = {
        "input_uri": "path, URI or cell of a Parquet file",
        "edited_uri": "likewise, for pairs",
        "root": "the source they are of, where it is local",
    }
    writes = {
        "input_image": "the file's bytes and name",
        "edited_image": "likewise, for pairs",
    }
    rejects = {
        "missing_image": "there is no such file",
        **images.REJECTS,
    }

    def __init__(self, config: ImagesConfig, *, seed: int) -> None:
        self.config = config

    def process(self, rows: list[Row]) -> None:
        """Load each row's images; a row whose file is bad is rejected and named."""
        for row in rows:
            row["input_image"] = self._load(row["input_uri"], row.get("root"))
            edited = row.get("edited_uri")
            row["edited_image"] = self._load(edited, row.get("root")) if edited else None

    def _load(self, uri: str, root: str | None) -> Image:
        try:
            data = read_bytes(uri)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if root and _is_gone(root):
                raise _away(root) from error
            raise RowError("missing_image", f"{uri}: there is no such file") from error
        except (OSError, pa.ArrowInvalid) as error:
            number = getattr(error, "errno", None)
            # EIO is a lost disk or a single bad sector: only the first takes the source away.
            if number in _AWAY or (number == errno.EIO and root and _is_gone(root)):
                raise _away(uri) from error
            problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise RowError("unreadable_image", f"{uri}: {problem}") from error
        # The whole URI, so that a rejection names the file.
        whole: Image = {"bytes": data, "path": uri}
        images.decode(whole, max_pixels=self.config.max_pixels, min_side=self.config.min_side)
        return {"bytes": data, "path": file_name(uri)}


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
