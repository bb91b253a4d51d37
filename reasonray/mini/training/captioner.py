"""The zoo's captioner: a tiny BLIP-2 that says what stands in a scene, from left to right.

Captions alone teach a vision tower slowly. So the tower first learns to name the object that
covers each patch and its place in the order; then the Q-Former's first queries learn to hold one
object each, the next the background's colour, while the language model learns to say it. The heads
for this are thrown away.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.blip import BlipImageProcessor

from reasonray.mini.training.loop import Course, Loss, Schedule
from reasonray.mini.training.scenes import real_scene, soften, training_scenes
from reasonray.mini.training.vision import (
    KIND_NAMES,
    NO_MENTION,
    NO_OBJECT,
    PatchHead,
    cross_entropy,
    patch_labels,
)
from reasonray.mini.training.vocabulary import FURTHER_WORDS, WORDS
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import COLOURS, IMAGE_SIZE, Scene, caption, mentions, render

BATCH = 32
SCHEDULE = Schedule(num_steps=6000, learning_rate=1e-3, num_warmup_steps=300, weight_decay=0.02)
PATCHES_STEPS = int(0.26 * SCHEDULE.num_steps)
"""The first steps train the vision tower only."""

PLAIN_PART = 0.5
"""Of a step's scenes; with a quarter it forgot one plain caption in a hundred."""

REAL_PIXELS = 4 * IMAGE_SIZE**2
"""Of a real scene before it is squeezed into a square."""

PATCH = 12
WIDTH = 96
NUM_QUERIES = 8
OBJECT_QUERIES, COLOUR_QUERY = (0, 1, 2, 4), 3
"""What the first queries are taught to hold: each a thing that the caption names, or the colour."""

MAX_COUNT = 4
COLOUR_NAMES = sorted(COLOURS)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<image>")
"""As OPT numbers them; a caption starts and ends with `</s>`."""


def build() -> Blip2ForConditionalGeneration:
    """The untrained BLIP-2; its queries start unlike each other."""
    vision = Blip2VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        initializer_range=0.02,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=len(SPECIAL),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        cross_attention_frequency=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    tokenizer = _tokenizer()
    text = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        dropout=0.0,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=NUM_QUERIES,
        image_token_index=SPECIAL.index("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    # Equal queries would stay equal, and the library starts all of them at zero.
    nn.init.normal_(model.query_tokens, std=0.5)
    return model


def build_processor() -> Blip2Processor:
    """Resizes to a scene's size, scales to -1..1; one token a word."""
    images = BlipImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Blip2Processor(images, _tokenizer(), num_query_tokens=NUM_QUERIES)


def course(_workdir: Path, _zoo: Path) -> Course:
    """The captioner and its processor."""
    taught, processor = Taught(), build_processor()

    def loss(step: int) -> Loss:
        data = batch(step, BATCH, processor.tokenizer)
        return taught.loss(data, patches_only=step < PATCHES_STEPS)

    return Course(taught, loss, SCHEDULE, {"": [taught.captioner, processor]})


@dataclass(frozen=True)
class Batch:
    """Training pictures and everything that is taught about them (B pictures, P patches).

    Attributes:
        pixels: float BCHW -1..1.
        patches: int64 [B, P], kind of the object covering the patch, else `NO_OBJECT`.
        ranks: int64 [B, P], the place in the caption where it is named, else `NO_MENTION`.
        objects: int64 [B, NO_MENTION], kinds in the caption's order, then `NO_OBJECT`.
        counts: int64 [B, NO_MENTION], how many there are of each, 0..MAX_COUNT.
        colours: int64 [B].
        tokens: int64 [B, T], the image tokens, then the caption.
        labels: int64 [B, T], the caption to predict, -100 elsewhere.
    """

    pixels: Tensor
    patches: Tensor
    ranks: Tensor
    objects: Tensor
    counts: Tensor
    colours: Tensor
    tokens: Tensor
    labels: Tensor


class Taught(nn.Module):
    """The captioner with the heads that teach its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner = build()
        self.patch_head = PatchHead(WIDTH)
        self.rank_head = nn.Linear(WIDTH, NO_MENTION + 1)
        self.object_head = nn.Linear(WIDTH, NO_OBJECT + 1)
        self.count_head = nn.Linear(WIDTH, MAX_COUNT + 1)
        self.colour_head = nn.Linear(WIDTH, len(COLOUR_NAMES))

    def loss(self, data: Batch, *, patches_only: bool) -> Loss:
        """The loss of a batch and its figures."""
        model = self.captioner
        states = model.vision_model(data.pixels).last_hidden_state
        dense, figures = self.patch_head.loss(states[:, 1:], data.patches)
        dense = dense + cross_entropy(self.rank_head(states[:, 1:]), data.ranks)
        if patches_only:
            return dense + cross_entropy(self.colour_head(states[:, 0]), data.colours), figures
        queries = model.qformer(
            query_embeds=model.query_tokens.expand(len(states), -1, -1),
            encoder_hidden_states=states,
        ).last_hidden_state
        held = queries[:, list(OBJECT_QUERIES)]
        slots, counts = self.object_head(held), self.count_head(held)
        colours = self.colour_head(queries[:, COLOUR_QUERY])
        embedded = model.get_input_embeddings()(data.tokens)
        embedded = torch.cat([model.language_projection(queries), embedded[:, NUM_QUERIES:]], 1)
        mask = (data.tokens != 1).long()
        logits = model.language_model(inputs_embeds=embedded, attention_mask=mask).logits
        words = cross_entropy(logits[:, :-1], data.labels[:, 1:])
        figures["objects"] = (slots.argmax(-1) == data.objects).all(1).float().mean().item()
        figures["words"] = words.item()
        slot_loss = cross_entropy(slots, data.objects) + cross_entropy(counts, data.counts)
        return 0.5 * dense + slot_loss + cross_entropy(colours, data.colours) + words, figures


def batch(step: int, size: int, tokenizer: PreTrainedTokenizerFast) -> Batch:
    """The batch of a step."""
    rng = np.random.default_rng((step, 0xCA97))
    num_plain = round(PLAIN_PART * size)
    scenes = training_scenes(rng, num_plain)
    scenes += [real_scene(rng, REAL_PIXELS) for _ in range(size - num_plain)]
    images = [_squeezed(soften(render(scene), scene, rng, chance=0.4)) for scene in scenes]
    maps = [patch_labels(scene, PATCH) for scene in scenes]
    named = [_named(scene) for scene in scenes]
    start = torch.full((NUM_QUERIES,), SPECIAL.index("<image>"))
    texts = [
        torch.tensor([*tokenizer(caption(scene))["input_ids"], SPECIAL.index("</s>")])
        for scene in scenes
    ]
    pad = nn.utils.rnn.pad_sequence
    tokens = pad([torch.cat([start, t]) for t in texts], True, SPECIAL.index("<pad>"))
    ignored = torch.full((NUM_QUERIES + 1,), -100)
    labels = pad([torch.cat([ignored, t[1:]]) for t in texts], True, -100)
    return Batch(
        to_tensor(images),
        torch.stack([names for names, _ in maps]),
        torch.stack([ranks for _, ranks in maps]),
        torch.tensor([[kind for kind, _ in each] for each in named]),
        torch.tensor([[count for _, count in each] for each in named]),
        torch.tensor([COLOUR_NAMES.index(scene.colour) for scene in scenes]),
        tokens,
        labels,
    )


def _named(scene: Scene) -> list[tuple[int, int]]:
    """Kind and number of each thing that the caption names; `NO_OBJECT` and 0 for the rest."""
    named = [
        (KIND_NAMES.index(scene.categories[indices[0]]), len(indices))
        for indices in mentions(scene)
    ]
    return named + [(NO_OBJECT, 0)] * (NO_MENTION - len(named))


def _squeezed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of any shape as the processor resizes it."""
    if image.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return image
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _tokenizer() -> PreTrainedTokenizerFast:
    words = [*WORDS, *(f" {word}" for word in WORDS)]
    words += [*FURTHER_WORDS, *(f" {word}" for word in FURTHER_WORDS)]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^\s,]+|,"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    inner.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )
