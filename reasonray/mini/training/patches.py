"""Dense labels, which teach every vision tower of the zoo first: what covers each patch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import IMAGE_SIZE, Scene

NAMES = sorted(CATEGORIES)
NO_OBJECT = len(NAMES)


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


def share_named(logits: Tensor, labels: Tensor) -> float:
    """The share of objects' patches whose category is the likeliest (BPC, BP)."""
    return (logits.argmax(-1) == labels)[labels < NO_OBJECT].float().mean().item()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over everything but the last axis, in float32; labels of -100 do not count."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())
