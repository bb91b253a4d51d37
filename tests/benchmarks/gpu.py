"""Seconds and memory of the paper's models at full size on a GPU, printed as JSON.

python tests/benchmarks/gpu.py [--scale full|tiny] [--device cuda] [--only GROUP ...]

The production classes on pictures of 1024x768, with random weights: no hub, no Ray. `full` builds
the models of the recipe `paper` from their configurations, `tiny` loads the zoo's, which a CPU runs
in a minute. A group is captioner, detector, painter, features, training or inference. Random
captions never end by themselves: they are as long as the recipe's longest.
"""

import argparse
import contextlib
import dataclasses
import gc
import io
import json
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import PIL.Image
import torch
from transformers import AutoConfig, AutoProcessor, CLIPTokenizer

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.recipe import load
from reasonray.core.sections import ModelConfig
from reasonray.costs.architectures import KNOWN
from reasonray.editor.batches import Batches, Variant
from reasonray.editor.frozen import Array, Frozen, Sample
from reasonray.editor.model import load_editor, load_vae
from reasonray.editor.pairs import Pair, pairs
from reasonray.editor.pipeline import ReasonEditPipeline
from reasonray.editor.training import Worker, train
from reasonray.mini import ZOO
from reasonray.models import weights
from reasonray.models.captioner import Captioner
from reasonray.models.detector import Detector
from reasonray.models.painter import Painter
from reasonray.models.weights import load_part

SIZE = (1024, 768)
PHRASES = ["dog", "bicycle", "red car", "street lamp", "tree", "bench"]
BOX = (380, 220, 700, 560)
GIB = 2**30
NOISE_SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
}
"""Stable Diffusion's."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is built: the recipe's name, the batch sizes, how often a call is timed."""

    recipe: str
    batches: tuple[int, ...]
    micro_batches: tuple[int, ...]
    sides: tuple[int, ...]
    repeats: int


SCALES = {
    "full": Scale("paper", (1, 4, 16), (16, 64), (256, 512), 3),
    "tiny": Scale("mini", (1, 2), (4,), (96,), 1),
}


def random_part(kind: Any, model: ModelConfig, subfolder: str | None = None, **options: Any) -> Any:
    """`weights.load_part` with random weights, on the device at once; tokenizers are the zoo's."""
    dtype = options.get("torch_dtype", options.get("dtype", torch.float32))
    if kind is CLIPTokenizer:
        tokenizer = CLIPTokenizer.from_pretrained(ZOO / "painter" / "tokenizer")
        tokenizer.model_max_length = 77
        return tokenizer
    if model.name not in KNOWN:
        return load_part(kind, model, subfolder, **options)
    content = KNOWN[model.name][subfolder or ""]
    if kind is AutoProcessor:
        return _processor(content["model_type"])
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(weights.device(model)):
            if "_class_name" in content:
                part = kind.from_config(content)
            else:
                config = AutoConfig.for_model(**content)
                _fit_tokens(config)
                part = kind(config) if hasattr(kind, "config_class") else kind.from_config(config)
    finally:
        torch.set_default_dtype(before)
    return part.to(weights.device(model), dtype)


def _processor(model_type: str) -> Any:
    """The zoo's processor, with the picture's size of a checkpoint of full size."""
    folder = {"blip-2": "captioner", "grounding-dino": "detector", "llava": "mllm"}[model_type]
    processor: Any = AutoProcessor.from_pretrained(ZOO / folder)
    images = processor.image_processor
    if model_type == "grounding-dino":
        images.size = {"shortest_edge": 800, "longest_edge": 1333}
    elif model_type == "blip-2":
        images.size = {"height": 224, "width": 224}
        processor.num_query_tokens = 32
    else:
        images.size, images.crop_size = {"shortest_edge": 336}, {"height": 336, "width": 336}
        processor.patch_size = 14
    return processor


def _fit_tokens(config: Any) -> None:
    """The picture's token is where the zoo's tokenizer has it."""
    if config.model_type == "llava":
        config.image_token_index = AutoProcessor.from_pretrained(ZOO / "mllm").image_token_id
    elif config.model_type == "blip-2":
        config.image_token_index = 50265


def measured(action: Callable[[], object], rows: int, scale: Scale, device: str) -> dict[str, Any]:
    """Seconds a row (the median of some calls after a first one) and the peak of memory."""
    action()
    seconds = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(scale.repeats):
        started = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    figures: dict[str, Any] = {"seconds_a_row": round(statistics.median(seconds) / rows, 5)}
    if device == "cuda":
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
    return figures


def pictures(count: int, size: tuple[int, int] = SIZE) -> list[PIL.Image.Image]:
    """Smooth random pictures, RGB."""
    rng = np.random.default_rng(0)
    return [
        PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            size, PIL.Image.Resampling.BICUBIC
        )
        for _ in range(count)
    ]


def captioner(scale: Scale, device: str) -> dict[str, Any]:
    """BLIP-2, by batch size."""
    section = load(scale.recipe).stages.caption
    model = Captioner(
        _on(section.model, device),
        max_new_tokens=section.max_new_tokens,
        min_new_tokens=section.min_new_tokens,
        num_beams=section.num_beams,
        no_repeat_ngram_size=section.no_repeat_ngram_size,
    )
    return {
        f"batch {n}": measured(partial(model.caption, pictures(n)), n, scale, device)
        for n in scale.batches
    }


def detector(scale: Scale, device: str) -> dict[str, Any]:
    """Grounding DINO: pictures of one shape, and of as many shapes as the web has.

    And what TF32 gains, and moves: the scores are those of the zoo's detector, whose weights are
    trained, on the README's picture.
    """
    model = Detector(_on(load(scale.recipe).stages.ground.model, device))
    shapes = [(1024 - 8 * i, 640 + 24 * i) for i in range(max(scale.batches))]
    results = {}
    for n in scale.batches:
        alike, mixed = pictures(n), [pictures(1, size)[0] for size in shapes[:n]]
        for name, images in ((f"batch {n}", alike), (f"batch {n}, mixed shapes", mixed)):
            results[name] = measured(
                partial(model.detect, images, [PHRASES] * n),
                n, scale, device,
            )  # fmt: skip
    trained = Detector(_on(load("mini").stages.ground.model, device))
    picture = PIL.Image.open(Path(__file__).parents[2] / "docs" / "demo.png").convert("RGB")
    scores = [answers.scores for answers in trained.ask([picture], [PHRASES])[0]]
    with patch("reasonray.models.detector.tensor_floats", lambda device: contextlib.nullcontext()):
        whole = [answers.scores for answers in trained.ask([picture], [PHRASES])[0]]
        n = max(scale.batches)
        alike = pictures(n)
        results[f"batch {n}, without TF32"] = measured(
            partial(model.detect, alike, [PHRASES] * n), n, scale, device
        )
    moved = max(float((a - b).abs().max()) for a, b in zip(scores, whole, strict=True))
    results["TF32"] = {
        "largest_score": float(max(s.max() for s in whole)),
        "moves_scores_by": moved,
    }
    return results


def painter(scale: Scale, device: str) -> dict[str, Any]:
    """GLIGEN, batched, and diffusers' own pipeline one by one, both of the same weights."""
    from diffusers import StableDiffusionGLIGENPipeline

    section = load(scale.recipe).stages.paint
    model = Painter.from_config(_on(section.model, device))

    def paint(n: int) -> object:
        return model.paint(
            pictures(n), [BOX] * n, ["a fox"] * n, ["a fox beside a house"] * n, list(range(n)),
            section,
        )  # fmt: skip

    results = {f"batch {n}": measured(partial(paint, n), n, scale, device) for n in scale.batches}
    if model.vae.config.latent_channels != 4:
        return results  # diffusers' pipeline takes it that there are four
    pipe: Any = StableDiffusionGLIGENPipeline(
        vae=model.vae, unet=model.unet, text_encoder=model.text_encoder, tokenizer=model.tokenizer,
        scheduler=model.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    # It brings the picture to the VAE's size, which a configuration need not state.
    model.vae.register_to_config(sample_size=model.image_size)
    pipe.set_progress_bar_config(disable=True)
    [square] = pictures(1, (model.image_size, model.image_size))
    cells = model.unet.config.sample_size
    noise = torch.randn(1, model.vae.config.latent_channels, cells, cells)
    noise = noise.to(device, model.unet.dtype)
    results["diffusers, one by one"] = measured(
        lambda: pipe(
            prompt="a fox beside a house", gligen_phrases=["a fox"],
            gligen_boxes=[[0.3, 0.3, 0.7, 0.7]], gligen_inpaint_image=square,
            gligen_scheduled_sampling_beta=section.scheduled_sampling_beta,
            num_inference_steps=section.num_inference_steps,
            guidance_scale=section.guidance_scale, negative_prompt=section.negative_prompt,
            latents=noise,
        ),
        1, scale, device,
    )  # fmt: skip
    return results


def features(scale: Scale, device: str) -> dict[str, Any]:
    """LLaVA's states and the VAE's latents of records, one square of each."""
    config = _editor(scale, device)
    frozen = Frozen(config)
    [picture] = pictures(1)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    image = {"bytes": buffer.getvalue(), "path": None}
    row = {
        "id": "III/gpu/0/0",
        "instruction": "Show what it makes instead.",
        "direct_instruction": "Turn the bee into honey.",
        "input_caption": "A bee.",
        "edited_caption": "Some honey.",
        "box": [100.0, 100.0, 300.0, 300.0],
        "input_image": image,
        "edited_image": image,
    }

    def squares(count: int) -> list[Pair]:
        return [pair for _ in range(count) for pair in pairs(row, range(1), config)]

    count = config.machines.feature_batch_size
    result = measured(lambda: frozen.samples(squares(count)), count, scale, device)
    sample = frozen.samples(squares(1))[0]
    arrays = [value for value in vars(sample).values() if isinstance(value, np.ndarray)]
    return {f"batch {count}": {**result, "bytes_a_sample": sum(a.nbytes for a in arrays)}}


@dataclasses.dataclass
class InMemory:
    """A few samples of the right shapes, taken again and again."""

    samples: Sequence[Sample]
    null: Array
    shapes: list[tuple[int, ...]]
    ids: list[str]
    groups: list[int]
    origins: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def take(self, variants: Sequence[Variant]) -> list[Sample]:
        """Some records; their squares are all the same."""
        return [self.samples[index % len(self.samples)] for index, _ in variants]


class StepTimes:
    """A logger that notes when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def last_step(self, tag: str) -> int:
        """Nothing is known."""
        return -1

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Note a step."""
        if tag == "editing/loss":
            self.times.append(time.perf_counter())

    def image(self, tag: str, image: PIL.Image.Image, step: int) -> None:
        """Nothing is drawn."""

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """Nothing is open."""


def training(scale: Scale, device: str) -> dict[str, Any]:
    """An editor's step from cached features, by micro-batch."""
    config, results = _editor(scale, device), {}
    vae = load_vae(config)
    cells = config.image_size // 2 ** (len(vae.config.block_out_channels) - 1)
    num_tokens, width = (26, 4096) if scale.recipe == "paper" else (12, 128)
    rng = np.random.default_rng(0)

    def values(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)

    latents = (vae.config.latent_channels, cells, cells)
    samples = [
        Sample(f"III/gpu/{i}/0", values(*latents), values(*latents), values(0, width),
               values(num_tokens, width), values(num_tokens, width)) for i in range(8)
    ]  # fmt: skip
    stored = InMemory(
        samples, values(num_tokens, width), [latents] * 8, [s.id for s in samples], [0] * 8
    )
    for micro in scale.micro_batches:
        machines = config.machines.model_copy(update={"micro_batch_size": micro})
        settings = config.model_copy(
            update={"batch_size": 2 * micro, "num_steps": 6, "alignment_steps": 0,
                    "machines": machines}
        )  # fmt: skip
        editor, scheduler = load_editor(settings, width, 0)
        log = StepTimes()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        train(
            editor,
            scheduler,
            Batches(stored, list(range(8)), settings, 0, device == "cuda"),
            [],
            settings,
            Worker(device=torch.device(device), loggers=[log]),
            vae.config.scaling_factor,
        )
        # A step's figures are read from the device, so that its time is the step's own.
        step = statistics.median(np.diff(log.times[1:]).tolist())
        results[f"micro-batch {micro}"] = {"seconds_a_row": round(step / (2 * micro), 5)}
        if device == "cuda":
            peak = torch.cuda.max_memory_allocated() / GIB
            results[f"micro-batch {micro}"]["peak_gib"] = round(peak, 2)
        del editor
        _release()
    return results


def edit_pipeline(scale: Scale, device: str) -> Any:
    """The recipe's editor before any training."""
    config = _editor(scale, device)
    frozen = Frozen(config)
    editor, scheduler = load_editor(config, _width(frozen), 0)
    dtype = frozen.vae.dtype
    pipe: Any = ReasonEditPipeline(
        vae=frozen.vae, unet=editor.unet.to(device, dtype), scheduler=scheduler,
        mllm=frozen.mllm, processor=frozen.processor,
        connector=editor.connector.to(device, dtype), tokens=config.tokens,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inference(scale: Scale, device: str) -> dict[str, Any]:
    """An edit through the pipeline, LLaVA included, by the picture's side."""
    pipe = edit_pipeline(scale, device)
    return {
        f"{side} px, 20 steps": measured(
            partial(
                pipe, pictures(1, (side, side)), ["Show what it makes instead."],
                num_inference_steps=20,
            ),
            1, scale, device,
        )
        for side in scale.sides
    }  # fmt: skip


def _width(frozen: Frozen) -> int:
    return int(frozen.mllm.config.text_config.hidden_size)


def _on(model: ModelConfig, device: str) -> ModelConfig:
    return model.model_copy(update={"device": device})


def _editor(scale: Scale, device: str) -> EditorConfig:
    config = load(scale.recipe).editor
    models = {name: _on(getattr(config, name), device) for name in ("base", "mllm")}
    if config.vae is not None:
        models["vae"] = _on(config.vae, device)
    return config.model_copy(update=models)


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


Groups = dict[str, Callable[[Scale, str], dict[str, Any]]]

GROUPS: Groups = {
    each.__name__: each for each in (captioner, detector, painter, features, training, inference)
}


def run(groups: Groups, scale: Scale, device: str) -> dict[str, Any]:
    """Figures by group; one that fails says how, and the others go on."""
    results: dict[str, Any] = {"device": device, "torch": torch.__version__}
    if device == "cuda":
        results["device"] = torch.cuda.get_device_name()
    for name, group in groups.items():
        started = time.perf_counter()
        try:
            results[name] = group(scale, device)
        except Exception as error:  # noqa: BLE001  of one model; the others are measured
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        _release()
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return results


@contextlib.contextmanager
def models(scale: str) -> Iterator[None]:
    """Within, a scale's models are loaded; libraries' warnings are ignored."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if scale == "full":
            for name in ("models.weights", "models.captioner", "models.detector",
                         "models.painter", "editor.model", "editor.frozen"):  # fmt: skip
                stack.enter_context(patch(f"reasonray.{name}.load_part", random_part))
            for name in ("models.painter", "editor.model"):
                stack.enter_context(patch(f"reasonray.{name}.load_config", _config))
        yield


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=list(GROUPS))
    words = parser.parse_args()
    groups = {name: GROUPS[name] for name in words.only}
    with models(words.scale):
        results = run(groups, SCALES[words.scale], words.device)
    print(json.dumps(results, indent=2))


def _config(kind: Any, model: ModelConfig, subfolder: str) -> dict[str, Any]:
    """`weights.load_config` of a model that is not there."""
    if subfolder == "scheduler":
        return dict(NOISE_SCHEDULE)
    with torch.device("meta"):
        return dict(kind.from_config(KNOWN[model.name][subfolder]).config)


if __name__ == "__main__":
    main()
