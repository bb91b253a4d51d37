"""What travels from the ingress to an editor, and how the edit becomes the reply's file.

The model works at a size of its own; the reply has the size that was asked for, and outside the
mask the pixels of the picture that was sent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.Image import Resampling

from reasonray.core import images
from reasonray.core.errors import UserError
from reasonray.serving.credentials import Credentials
from reasonray.serving.mark import Format, encode

Safety = Callable[[PIL.Image.Image, str], str | None]


class UnsafeError(Exception):
    """The safety checker refuses a result; its text is the reason."""


@dataclass(frozen=True)
class Facts:
    """What an editor says of itself.

    Attributes:
        side: it edits pictures whose shorter side has at most so many pixels.
        factor: the sides that it edits are multiples of it.
        num_inference_steps, guidance_scale, image_guidance_scale: where a request has none.
        created: when the editor was trained, Unix time.
    """

    side: int
    factor: int
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    created: int


@dataclass(frozen=True)
class EditTask:
    """One picture to be made.

    Attributes:
        image: uint8 RGB HWC, at a size the model works at.
        instruction: as it was sent.
        seed: of this picture.
        num_inference_steps, guidance_scale, image_guidance_scale: as the pipeline's.
        mask: HW as the image, True may change; None: all may.
        num_partials: pictures that are shown on the way.
        deadline: Unix time at which nobody waits for it any more.
        size: width and height of the reply.
        source: with a mask, the encoded picture; the reply's pixels outside the mask are its.
        full_mask: with a mask, it at the reply's size, True may change, packed by `np.packbits`.
        format, compression: of the reply, as `mark.encode`.
    """

    image: NDArray[np.uint8]
    instruction: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    image_guidance_scale: float
    mask: NDArray[np.bool_] | None
    num_partials: int
    deadline: float
    size: tuple[int, int]
    source: bytes | None
    full_mask: bytes | None
    format: Format
    compression: int


@dataclass(frozen=True)
class PartialFile:
    """A picture on the way.

    Attributes:
        index: from 0.
        file: as the reply's.
    """

    index: int
    file: bytes


@dataclass(frozen=True)
class FinishedFile:
    """The reply's picture, encoded."""

    file: bytes


Event = PartialFile | FinishedFile


def working_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at the model's size: what holds any pixel that may change, may change.

    Args:
        mask: HW.
        size: width and height.
    """
    parts = PIL.Image.fromarray(mask.astype(np.float32)).resize(size, Resampling.BOX)
    return np.asarray(parts) > 0


def resized(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    """The whole picture at another size, in another shape if the size has one; RGB."""
    return image if image.size == size else image.resize(size, Resampling.LANCZOS)


def at_reply_size(edited: PIL.Image.Image, task: EditTask) -> PIL.Image.Image:
    """The reply's picture: the edit, and outside the mask the picture that was sent.

    Args:
        edited: RGB, at the model's size.
        task: whose edit it is.
    """
    large = resized(edited.convert("RGB"), task.size)
    if task.source is None or task.full_mask is None:
        return large
    source = resized(images.read({"bytes": task.source, "path": None}).pixels, task.size)
    width, height = task.size
    packed = np.frombuffer(task.full_mask, np.uint8)
    mask = np.unpackbits(packed, count=width * height).astype(bool).reshape(height, width)
    return PIL.Image.fromarray(np.where(mask[..., None], np.asarray(large), np.asarray(source)))


class Finisher:
    """Makes the reply's files of the model's pictures; to be called in a thread of its own.

    Args:
        mark: as `mark.encode`.
        safety: `module:function` of the checker; None: none.
        c2pa: file of the `Credentials` that sign the files; None: they are not signed.

    Raises:
        UserError: there is no such function, or one cannot sign with the file.
    """

    def __init__(self, mark: bool, safety: str | None, c2pa: str | None = None) -> None:
        self.mark = mark
        self.credentials = None if c2pa is None else Credentials(Path(c2pa))
        self.safety: Safety | None = None
        if safety is not None:
            module, _, name = safety.partition(":")
            try:
                self.safety = getattr(import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise UserError(f"safety: {safety}: {error}") from error

    def __call__(self, edited: PIL.Image.Image, task: EditTask) -> bytes:
        """The encoded reply of an edit, or of a partial one.

        Raises:
            UnsafeError: the checker's reason.
        """
        picture = at_reply_size(edited, task)
        if self.safety is not None and (reason := self.safety(picture, task.instruction)):
            raise UnsafeError(reason)
        file = encode(picture, task.format, task.compression, self.mark)
        return file if self.credentials is None else self.credentials.signed(file, task.format)
