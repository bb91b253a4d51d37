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
from reasonray.mini.training.scenes import soften, training_scenes
from reasonray.mini.training.vision import NAMES, PatchHead, cross_entropy, patch_labels
from reasonray.mini.training.vocabulary import WORDS
from reasonray.models.pixels import to_tensor
from reasonray.sources.mini.world import COLOURS, IMAGE_SIZE, caption, render

BATCH = 32
SCHEDULE = Schedule(num_steps=6000, learning_rate=1e-3, num_warmup_steps=300, weight_decay=0.02)
PATCHES_STEPS = int(0.26 * SCHEDULE.num_steps)
"""The first steps train the vision tower only."""

PATCH = 12
WIDTH = 96
NUM_QUERIES = 8
MAX_OBJECTS = 3
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
        patches: int64 [B, P], category of the object covering the patch, else len(NAMES).
        ranks: int64 [B, P], its place from the left, else MAX_OBJECTS.
        objects: int64 [B, MAX_OBJECTS], categories from left to right, then len(NAMES).
        colours: int64 [B].
        tokens: int64 [B, T], the image tokens, then the caption.
        labels: int64 [B, T], the caption to predict, -100 elsewhere.
    """

    pixels: Tensor
    patches: Tensor
    ranks: Tensor
    objects: Tensor
    colours: Tensor
    tokens: Tensor
    labels: Tensor


class Taught(nn.Module):
    """The captioner with the heads that teach its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner = build()
        self.patch_head = PatchHead(WIDTH)
        self.rank_head = nn.Linear(WIDTH, MAX_OBJECTS + 1)
        self.object_head = nn.Linear(WIDTH, len(NAMES) + 1)
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
        slots = self.object_head(queries[:, :MAX_OBJECTS])
        colours = self.colour_head(queries[:, MAX_OBJECTS])
        embedded = model.get_input_embeddings()(data.tokens)
        embedded = torch.cat([model.language_projection(queries), embedded[:, NUM_QUERIES:]], 1)
        mask = (data.tokens != 1).long()
        logits = model.language_model(inputs_embeds=embedded, attention_mask=mask).logits
        words = cross_entropy(logits[:, :-1], data.labels[:, 1:])
        figures["objects"] = (slots.argmax(-1) == data.objects).all(1).float().mean().item()
        figures["words"] = words.item()
        total = (
            0.5 * dense + cross_entropy(slots, data.objects) + cross_entropy(colours, data.colours)
        )
        return total + words, figures


def batch(step: int, size: int, tokenizer: PreTrainedTokenizerFast) -> Batch:
    """The batch of a step."""
    rng = np.random.default_rng((step, 0xCA97))
    scenes = training_scenes(rng, size)
    images = [soften(render(scene), scene, rng, chance=0.4) for scene in scenes]
    maps = [patch_labels(scene, PATCH) for scene in scenes]
    objects = [[NAMES.index(name) for name in scene.categories] for scene in scenes]
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
        torch.tensor([o + [len(NAMES)] * (MAX_OBJECTS - len(o)) for o in objects]),
        torch.tensor([COLOUR_NAMES.index(scene.colour) for scene in scenes]),
        tokens,
        labels,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    words = [*WORDS, *(f" {word}" for word in WORDS)]
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
