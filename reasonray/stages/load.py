"""Read a row's images from where the plan says they lie."""

import pyarrow as pa

from reasonray import images
from reasonray.errors import RowError
from reasonray.recipe import ImagesConfig
from reasonray.record import Image, Row
from reasonray.sources.files import file_name, read_bytes
from reasonray.stages.stage import Stage


class Load(Stage):
    """Bytes into the row, untouched, after seeing that they can be decoded.

    A remote store that does not answer stops the run (`RunError`): its rows are not to blame.
    """

    name = "load"
    reads = {
        "input_uri": "path, URI or cell of a Parquet file",
        "edited_uri": "likewise, for pairs",
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
            row["input_image"] = self._load(row["input_uri"])
            edited = row.get("edited_uri")
            row["edited_image"] = self._load(edited) if edited else None

    def _load(self, uri: str) -> Image:
        try:
            data = read_bytes(uri)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise RowError("missing_image", f"{uri}: there is no such file") from error
        except (OSError, pa.ArrowInvalid) as error:
            problem = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise RowError("unreadable_image", f"{uri}: {problem}") from error
        # The whole URI, so that a rejection names the file.
        whole: Image = {"bytes": data, "path": uri}
        images.decode(whole, max_pixels=self.config.max_pixels, min_side=self.config.min_side)
        return {"bytes": data, "path": file_name(uri)}
