"""The zoo's detector: a tiny Grounding DINO that finds the phrases of a prompt in a scene.

Trained on prompts of one to eight phrases, most of them not in the picture. Loss: the paper's set
loss on every decoder layer (focal on the tokens of the matched phrase, L1 and GIoU on boxes), and
on the encoder a dense one, a peak at each object's centre, because the library's own encoder loss
does not reach the scores by which its queries are chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    SwinConfig,
)
from transformers.models.grounding_dino import GroundingDinoImageProcessor

from reasonray.mini.training.loop import Course, Loss, Schedule
from reasonray.mini.training.scenes import mixed_scenes, soften
from reasonray.mini.training.vocabulary import FURTHER_WORDS, OTHER_NOUNS, PIECES, WORDS
from reasonray.sources.mini.catalogue import KINDS
from reasonray.sources.mini.world import IMAGE_SIZE, Scene, SceneObject, render

BATCH = 16
SCHEDULE = Schedule(num_steps=6000, learning_rate=1e-3, num_warmup_steps=200)
MAX_PHRASES = 8
MAX_TEXT_LEN = 64
MEAN, STD = 127.5, 127.5
"""Of the picture's values 0..255."""

RESERVED = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}
"""Token ids that the library's phrase boundaries rely on."""

LONGEST_EDGE = 2 * IMAGE_SIZE
"""Of a picture as the model sees it, pixels; its shorter side is a plain scene's at most."""

STRIDES = (8, 16)
"""Of the feature maps, pixels."""

UNSEEN_NOUNS = tuple(
    noun for noun in OTHER_NOUNS if not any(noun in name.split() for name in KINDS)
)
"""An alarm clock is a clock, too."""


def build() -> GroundingDinoForObjectDetection:
    """The untrained detector: a Swin of three stages, queries for sixteen objects."""
    backbone = SwinConfig(
        image_size=IMAGE_SIZE,
        embed_dim=32,
        depths=[1, 2, 2],
        num_heads=[2, 4, 8],
        window_size=6,
        mlp_ratio=2.0,
        drop_path_rate=0.0,
    )
    backbone.set_output_features_output_indices(out_features=["stage2", "stage3"], out_indices=None)
    text = BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_TEXT_LEN,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=64,
        num_feature_levels=len(STRIDES),
        num_queries=16,
        encoder_layers=2,
        encoder_ffn_dim=128,
        encoder_attention_heads=4,
        encoder_n_points=4,
        decoder_layers=3,
        decoder_ffn_dim=128,
        decoder_attention_heads=4,
        decoder_n_points=4,
        dropout=0.0,
        fusion_droppath=0.0,
        max_text_len=MAX_TEXT_LEN,
        two_stage=True,
        embedding_init_target=True,
    )
    return GroundingDinoForObjectDetection(config)


def build_processor() -> GroundingDinoProcessor:
    """Resizes the shorter side to a scene's, scales to -1..1; BERT tokens."""
    images = GroundingDinoImageProcessor(
        size={"shortest_edge": IMAGE_SIZE, "longest_edge": LONGEST_EDGE},
        image_mean=[MEAN / 255] * 3,
        image_std=[STD / 255] * 3,
    )
    return GroundingDinoProcessor(images, _tokenizer())


def course(_workdir: Path, _zoo: Path) -> Course:
    """The detector and its processor."""
    model, processor = build(), build_processor()

    def loss(step: int) -> Loss:
        return _loss(model, batch(step, BATCH, processor.tokenizer))

    return Course(model, loss, SCHEDULE, {"": [model, processor]})


@dataclass(frozen=True)
class Batch:
    """Training pictures with prompts (B pictures, T tokens, a target for each object asked for).

    Attributes:
        pixels: float BCHW -1..1.
        tokens, mask: int64 and bool [B, T].
        boxes: per picture [N, 4], cxcywh 0..1.
        positives: per picture [N, T] bool, the tokens of each target's phrase.
    """

    pixels: Tensor
    tokens: Tensor
    mask: Tensor
    boxes: list[Tensor]
    positives: list[Tensor]


def batch(step: int, size: int, tokenizer: BertTokenizer) -> Batch:
    """The batch of a step."""
    rng = np.random.default_rng((step, 0xDE7EC7))
    images, prompts, owned_boxes = [], [], []
    for scene in mixed_scenes(rng, size, shortest_edge=IMAGE_SIZE, longest_edge=LONGEST_EDGE):
        images.append(soften(render(scene), scene, rng))
        phrases = _phrases(scene.categories, rng)
        prompts.append(phrases)
        owned_boxes.append(
            [
                (phrases.index(item.category), _relative(scene, item))
                for item in scene.objects
                if item.category in phrases
            ]
        )
    tokens, owners = _tokenize(prompts, tokenizer)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().sub(MEAN).div(STD)
    return Batch(
        pixels,
        tokens,
        tokens != 0,
        [torch.tensor([box for _, box in each]).reshape(-1, 4) for each in owned_boxes],
        [
            owner == torch.tensor([phrase for phrase, _ in each]).reshape(-1, 1)
            for owner, each in zip(owners, owned_boxes, strict=True)
        ],
    )


def _relative(scene: Scene, item: SceneObject) -> list[float]:
    """What is to be seen of an object: cxcywh, 0..1."""
    left, top, right, bottom = scene.visible(item)
    across, down = 1 / scene.width, 1 / scene.height
    return [
        (left + right) / 2 * across,
        (top + bottom) / 2 * down,
        (right - left) * across,
        (bottom - top) * down,
    ]


def _phrases(present: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """One to eight phrases in any order; each present object is asked for two times out of three.

    Others are absent kinds, now and then a noun of no scene.
    """
    some = [name for name in dict.fromkeys(present) if rng.random() < 0.67]
    count = max(int(rng.integers(1, MAX_PHRASES + 1)), len(some))
    absent = [name for name in KINDS if name not in present]
    others = [str(name) for name in rng.permutation(absent)]
    if rng.random() < 0.3:
        others.insert(0, str(rng.choice(UNSEEN_NOUNS)))
    phrases = some + others[: count - len(some)]
    return [phrases[i] for i in rng.permutation(len(phrases))]


def _tokenize(prompts: list[list[str]], tokenizer: BertTokenizer) -> tuple[Tensor, Tensor]:
    """Token ids [B, T], and [B, T] which phrase each token belongs to (-1: none)."""
    known: dict[str, list[int]] = {}
    rows, owners = [], []
    for phrases in prompts:
        row, owner = [101], [-1]
        for i, phrase in enumerate(phrases):
            if phrase not in known:
                known[phrase] = tokenizer(phrase, add_special_tokens=False)["input_ids"]
            row += [*known[phrase], 1012]
            owner += [i] * len(known[phrase]) + [-1]
        rows.append(torch.tensor([*row, 102]))
        owners.append(torch.tensor([*owner, -1]))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(owners, batch_first=True, padding_value=-1)


def _loss(model: GroundingDinoForObjectDetection, data: Batch) -> Loss:
    num_boxes = max(1, sum(len(boxes) for boxes in data.boxes))
    inner = model.model(
        pixel_values=data.pixels, input_ids=data.tokens, attention_mask=data.mask.long()
    )
    width = data.tokens.shape[1]
    text = inner.encoder_last_hidden_state_text.transpose(1, 2)
    dense = _dense_loss(
        inner.enc_outputs_class[..., :width].float(),
        inner.enc_outputs_coord_logits,
        data,
        num_boxes,
    )
    total = dense
    figures = {"dense": dense.item()}
    references = [inner.init_reference_points, *inner.intermediate_reference_points.unbind(1)]
    for layer, hidden in enumerate(inner.intermediate_hidden_states.unbind(1)):
        reference = torch.special.logit(references[layer], eps=1e-5)
        boxes = (model.bbox_embed[layer](hidden) + reference).float().sigmoid()
        value, figures["layer"] = _set_loss((hidden @ text).float(), boxes, data, num_boxes)
        total = total + value
    return total, figures


def _set_loss(logits: Tensor, boxes: Tensor, data: Batch, num_boxes: int) -> tuple[Tensor, float]:
    """Hungarian matching of queries [B, Q] to targets; each unmatched query matches no token."""
    targets = torch.zeros_like(logits)
    matched, truths = [], []
    probabilities = logits.detach().sigmoid()
    for i, (truth, positives) in enumerate(zip(data.boxes, data.positives, strict=True)):
        if not len(truth):
            continue
        share = positives / positives.sum(dim=1, keepdim=True)
        p = probabilities[i]
        gain = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log() - 0.75 * p**2 * -(1 - p + 1e-8).log()
        predicted = boxes[i].detach()
        cost = (
            2 * gain @ share.T
            + 5 * torch.cdist(predicted, truth, p=1)
            - 2 * _giou(predicted[:, None], truth[None])
        )
        queries, chosen = linear_sum_assignment(cost.numpy())
        targets[i, queries] = positives[chosen].float()
        matched.append(boxes[i, queries])
        truths.append(truth[chosen])
    focal = _focal(logits, targets)[data.mask[:, None, :].expand_as(logits)].sum() / num_boxes
    if not matched:
        return 2 * focal, 0.0
    return 2 * focal + _box_loss(torch.cat(matched), torch.cat(truths), num_boxes), focal.item()


def _dense_loss(logits: Tensor, box_logits: Tensor, data: Batch, num_boxes: int) -> Tensor:
    """A peak at the cell of each object's centre, on every level; nearby cells weigh less."""
    targets, weights = torch.zeros_like(logits), torch.ones_like(logits)
    rows, cells, truths = [], [], []
    offset = 0
    for height, width in (level(stride, data.pixels.shape[-2:]) for stride in STRIDES):
        columns, lines = ((torch.arange(n) + 0.5) / n for n in (width, height))
        for i, (truth, positives) in enumerate(zip(data.boxes, data.positives, strict=True)):
            peaks = []
            for box, tokens in zip(truth, positives, strict=True):
                near_x = -((columns - box[0]) / (0.3 * box[2])).square()
                near_y = -((lines - box[1]) / (0.3 * box[3])).square()
                heat = torch.exp(near_y[:, None] + near_x[None]).flatten()
                row = slice(offset, offset + height * width)
                lowered = torch.minimum(weights[i, row], (1 - heat[:, None]) ** 2)
                weights[i, row] = torch.where(tokens, lowered, weights[i, row])
                cell = offset + int(heat.argmax())
                peaks.append(cell)
                targets[i, cell] = torch.maximum(targets[i, cell], tokens.float())
                rows.append(i)
                cells.append(cell)
                truths.append(box)
            weights[i, peaks] = 1.0
        offset += height * width
    valid = data.mask[:, None, :].expand_as(logits)
    focal = (_focal(logits, targets) * weights)[valid].sum() / (len(STRIDES) * num_boxes)
    if not rows:
        return 2 * focal
    boxes = box_logits[rows, cells].float().sigmoid()
    return 2 * focal + _box_loss(boxes, torch.stack(truths), len(STRIDES) * num_boxes)


def level(stride: int, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of a feature map: Swin pads to whole patches, then to even numbers."""
    height, width = (-(-side // 4) for side in size)
    for _ in range(stride.bit_length() - 3):
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def _focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of each token, alpha 0.25, gamma 2; padding (-inf) gives no gradient."""
    logits = logits.clamp(min=-50)
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    distance = p * (1 - targets) + (1 - p) * targets
    return (0.25 * targets + 0.75 * (1 - targets)) * entropy * distance**2


def _box_loss(boxes: Tensor, truth: Tensor, num_boxes: int) -> Tensor:
    return (5 * (boxes - truth).abs().sum() + 2 * (1 - _giou(boxes, truth)).sum()) / num_boxes


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of cxcywh boxes, broadcast."""
    a_low, a_high = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    b_low, b_high = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    overlap = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - overlap
    return overlap / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def _vocabulary() -> list[str]:
    """Token strings by id, with the reserved ones at their places."""
    words = iter([*WORDS, *PIECES, *(f"##{piece}" for piece in PIECES), *FURTHER_WORDS])
    words = iter(dict.fromkeys(w for w in words if w not in RESERVED.values()))
    size = max(RESERVED) + 1
    return [RESERVED.get(i) or next(words, f"[unused{i}]") for i in range(size)]


def _tokenizer() -> BertTokenizer:
    vocabulary = {token: i for i, token in enumerate(_vocabulary())}
    return BertTokenizer(vocab=vocabulary, model_max_length=MAX_TEXT_LEN)
