"""What the zoo's vision towers share: how they are given pictures, and what teaches them first.

That are dense labels, what covers each patch: captions and answers alone teach a tower slowly.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessor

from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, Scene

NAMES = sorted(CATEGORIES)
NO_OBJECT = len(NAMES)


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
        scene: P is the number of whole patches in its picture.
        patch: side in pixels.

    Returns:
        The category of the object that covers the patch, else `NO_OBJECT`; and the object's place
        from the left, else 3, the most objects of a scene.
    """
    side = IMAGE_SIZE // patch
    names = torch.full((side, side), NO_OBJECT)
    ranks = torch.full((side, side), 3)
    for rank, item in enumerate(scene.objects):
        # A patch belongs to the object whose box covers its centre.
        left, top, right, bottom = ((edge + patch // 2 - 1) // patch for edge in item.box)
        names[top:bottom, left:right] = NAMES.index(item.category)
        ranks[top:bottom, left:right] = rank
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
        super().__init__(width, len(NAMES) + 1)

    def loss(self, states: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Of states BPC and labels BP; and the share of objects' patches that are named right."""
        logits = self(states)
        right = (logits.argmax(-1) == labels)[labels < NO_OBJECT]
        return cross_entropy(logits, labels), {"patches": right.float().mean().item()}
