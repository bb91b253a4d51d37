"""What the zoo's vision towers share: how they are given pictures, and what teaches them first.

That are dense labels, what covers each patch: captions and answers alone teach a tower slowly.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor

from reasonray.sources.mini.catalogue import CATEGORIES, COMPOUNDS, HOLDERS
from reasonray.sources.mini.world import IMAGE_SIZE, Scene, mentions

NAMES = sorted(CATEGORIES)
KIND_NAMES = [*NAMES, *sorted(COMPOUNDS), *sorted(HOLDERS)]
"""Also of what is in real scenes only."""

NO_OBJECT = len(KIND_NAMES)
NO_MENTION = 4
"""Real captions name up to so many things."""


def image_processor() -> CLIPImageProcessor:
    """Resizes the short side to a scene's, crops the middle, scales to -1..1."""
    return CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def patch_labels(scene: Scene, patch: int) -> tuple[Tensor, Tensor]:
    """Of a scene's patches, row by row, int64 [P] each.

    Args:
        scene: P is the number of whole patches in its picture, squeezed to a plain scene's size.
        patch: side in pixels.

    Returns:
        The kind of the object that covers the patch, else `NO_OBJECT`; and the place in the
        caption where the object is named, else `NO_MENTION`.
    """
    side = IMAGE_SIZE // patch
    names = torch.full((side, side), NO_OBJECT)
    ranks = torch.full((side, side), NO_MENTION)
    places = {index: rank for rank, same in enumerate(mentions(scene)) for index in same}
    # What is held covers what holds it.
    for index in sorted(places, key=lambda index: scene.objects[index].holder is not None):
        item = scene.objects[index]
        factors = (IMAGE_SIZE / scene.width, IMAGE_SIZE / scene.height) * 2
        box = (v * factor for v, factor in zip(scene.visible(item), factors, strict=True))
        # A patch belongs to the object whose box covers its centre.
        left, top, right, bottom = (int((edge + patch // 2 - 1) // patch) for edge in box)
        names[top:bottom, left:right] = KIND_NAMES.index(item.category)
        ranks[top:bottom, left:right] = places[index]
    return names.flatten(), ranks.flatten()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over everything but the last axis, in float32; labels of -100 do not count."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())


class PatchHead(nn.Linear):
    """Names the category that covers each patch; teaches a tower, and is thrown away.

    Args:
        width: of the tower's states.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, NO_OBJECT + 1)

    def loss(self, states: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Of states BPC and labels BP, -100 where none fits; and the share of named objects."""
        logits = self(states)
        right = (logits.argmax(-1) == labels)[(labels >= 0) & (labels < NO_OBJECT)]
        return cross_entropy(logits, labels), {"patches": right.float().mean().item()}
