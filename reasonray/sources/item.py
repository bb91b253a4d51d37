"""What every reader yields: one input of the run, before it is spread over parts and variations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One pair or one image of a source; no pixels, only where they lie.

    Attributes:
        source_id: the source's own id of it, unique and stable within the source.
        input_uri: a path, a URI, or `<parquet>#<row group>/<row>/<column>`.
        edited_uri: likewise; None for what is no pair.
        input_caption, edited_caption, direct_instruction: as the source has them.
        categories: what the source says is in the input image; names as it has them.
        license: as the source states it for this image.
        reason, detail: of a rejection by the stage `load`, where the source already shows that
            there is nothing to load; the row is in the plan all the same, and is counted.
    """

    source_id: str
    input_uri: str
    edited_uri: str | None = None
    input_caption: str | None = None
    edited_caption: str | None = None
    direct_instruction: str | None = None
    categories: tuple[str, ...] = ()
    license: str | None = None
    reason: str | None = None
    detail: str | None = None
