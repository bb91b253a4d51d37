"""The sections of a recipe: pydantic models with a description, unit and default for every key."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
EditedFormat = Literal["webp", "png", "jpeg"]
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_CONDITION = re.compile(rf"!?({_LABEL}|in\({_LABEL}(, ?{_LABEL})*\))")


def _as_ray_takes(selector: dict[str, str]) -> dict[str, str]:
    for name, condition in selector.items():
        if not _CONDITION.fullmatch(condition):
            raise ValueError(f"{name}: expected VALUE, !VALUE, in(A, B) or !in(A, B)")
    return selector


LabelSelector = Annotated[
    dict[str, str],
    AfterValidator(_as_ray_takes),
    Field(
        description="Machines of a cluster that are taken, by their Ray labels, such as "
        "{reasonray/gpu: large} or {ray.io/accelerator-type: 'in(H100, H200)'}; none: any"
    ),
]


class Config(BaseModel):
    """Base of every section: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Config):
    """Which weights, and where they run."""

    name: str = Field(
        description="Hub id, a local folder, a URI of one on a store (s3://, gs://, az://), of "
        "which each machine keeps a copy in REASONRAY_CACHE, or `package:FOLDER` for one inside an "
        "installed Python package"
    )
    revision: str | None = Field(None, description="Hub commit or tag; no effect on folders")
    device: str = Field("auto", description="auto (a GPU if the actor has one), cpu or cuda")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Of the weights; auto: float16 on a GPU, float32 on a CPU"
    )


class SourceConfig(Config):
    """One input of the run."""

    format: Literal["instructpix2pix", "instructpix2pix-parquet", "v3det", "folder", "mini"] = (
        Field(description="On-disk format; `mini` makes a mini world first")
    )
    path: str = Field(
        description="Folder or filesystem URI; for mini: COUNT[@SEED][,SCENERY[,MEGAPIXELS]], "
        "SCENERY plain (96x96, the default), shapes (1:3 to 3:1, small and cut objects) or real "
        "(also several and held ones), MEGAPIXELS the most of a picture that is not plain (1)"
    )
    split: str = Field("train", description="v3det: train, val or test; no effect elsewhere")
    categories: bool = Field(
        False,
        description="v3det: what its annotations say is in a picture can be replaced, too, beside "
        "what the caption names: captioners say dog where they say Lhasa apso; no effect elsewhere",
    )
    license: str | None = Field(None, description="Written into every row of this source")


class ImagesConfig(Config):
    """Limits on the images that come in."""

    max_pixels: int = Field(50_000_000, gt=0, description="Larger images are rejected unread")
    min_side: int = Field(32, gt=0, description="Pixels; smaller images are rejected")
    max_aspect: float = Field(
        10,
        ge=1,
        description="Longer side divided by the shorter; longer images are rejected: panoramas "
        "have up to 8, and beyond 30 Grounding DINO has fewer places than it looks for",
    )
    max_side: int | None = Field(
        1024,
        gt=0,
        le=16383,
        description="Pixels; larger images are made so small when they are loaded, and the record "
        "holds the small one; null: the record holds the source's own bytes, whatever their size",
    )


class DivergenceConfig(Config):
    """Eq. 1: drop pairs whose two images hardly differ."""

    threshold: float | None = Field(
        None, ge=0, description="Reject below this mean squared difference of RGB 0..1; null: none"
    )
    worst_fraction: Fraction | None = Field(
        0.1, description="Reject this fraction of all pairs, the least different; null: none"
    )
    size: int = Field(256, gt=0, description="Both images are compared at this square size, pixels")


class RewriteConfig(Config):
    """P_gen, Eq. 2: several reasoning instructions for one pair."""

    num_candidates: int = Field(5, ge=1, description="Candidates asked for in one request")
    num_retries: int = Field(3, ge=0, description="Times an invalid reply is asked for again")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature")
    max_tokens: int = Field(1024, gt=0, description="Of one reply")


class SelectConfig(Config):
    """P_select, Eq. 3: the best of the candidates."""

    num_retries: int = Field(3, ge=0, description="Times an invalid reply is asked for again")
    temperature: float = Field(0.0, ge=0, description="Sampling temperature of the first try")
    max_tokens: int = Field(256, gt=0, description="Of one reply")


class CaptionConfig(Config):
    """BLIP-2, for inputs without a caption."""

    model: ModelConfig = ModelConfig(name="Salesforce/blip2-opt-2.7b")
    min_new_tokens: int = Field(
        8, ge=0, description="Of one caption; this and the next as LAVIS evaluates BLIP-2"
    )
    max_new_tokens: int = Field(40, gt=0, description="Of one caption")
    num_beams: int = Field(5, ge=1, description="1: greedy, which runs into loops")
    no_repeat_ngram_size: int = Field(
        3, ge=0, description="No run of so many tokens occurs twice in a caption; 0: any may"
    )


class CategoriesConfig(Config):
    """spaCy, Eq. 4: candidate categories in the caption."""

    model: str | None = Field(
        None, description="spaCy pipeline; null: en_core_web_sm, or the one installed with us"
    )
    max_categories: int = Field(8, ge=1, description="The first so many of a caption")


class GroundConfig(Config):
    """Grounding DINO, Eq. 5: a box for each category."""

    model: ModelConfig = ModelConfig(name="IDEA-Research/grounding-dino-base")
    box_threshold: Fraction = Field(0.35, description="Least score of a box")
    min_area: Fraction = Field(0.01, description="Least area of a box, of the image's")
    max_area: Fraction = Field(0.7, description="Largest area of a box, of the image's")


class ProposeConfig(Config):
    """P_replace, Eq. 6: what is replaced by what, and the reasoning instruction."""

    num_retries: int = Field(3, ge=0, description="Times an invalid reply is asked for again")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature")
    max_tokens: int = Field(512, gt=0, description="Of one reply")


class PaintConfig(Config):
    """GLIGEN, Eq. 7: the box repainted."""

    model: ModelConfig = ModelConfig(name="masterful/gligen-1-4-inpainting-text-box")
    num_inference_steps: int = Field(50, ge=1, description="Denoising steps")
    guidance_scale: float = Field(7.5, ge=1, description="Classifier-free guidance; 1: off")
    negative_prompt: str = Field(
        "", description="What the guidance leads away from, in words; no effect without guidance"
    )
    scheduled_sampling_beta: Fraction = Field(
        1.0,
        description="GLIGEN's tau: box and phrase are heard for this first part of the steps; all, "
        "as in GLIGEN's own inpainting (0.3 is for its generation)",
    )
    window: float = Field(
        2.25,
        ge=1,
        description="Side of the square that is painted, in longer sides of the box, where the "
        "picture is that large: a box always gets nearly half of the model's pixels across; less "
        "shows the model less of what stands around it",
    )
    margin: Fraction = Field(
        0.06, description="Boxes are widened on each side by this fraction of their width and "
        "height: detectors cut tight, and what is left of an object's edge shows"
    )  # fmt: skip
    feather: Fraction = Field(
        0.05, description="Soft edge of the box inside it, a fraction of its shorter side"
    )


class QualityConfig(Config):
    """What a made pair must satisfy; each null switches its check off."""

    model: ModelConfig = ModelConfig(name="IDEA-Research/grounding-dino-base")
    clip: ModelConfig = Field(
        ModelConfig(name="openai/clip-vit-base-patch32"),
        description="CLIP; loaded only where min_clip_lead is set",
    )
    min_divergence: float | None = Field(
        0.001, ge=0, description="Eq. 1 on pairs without a box: least mean squared difference of "
        "RGB 0..1"
    )  # fmt: skip
    min_box_divergence: float | None = Field(
        0.005, ge=0, description="Eq. 1 on the painted box; Stable Diffusion's VAE alone changes a "
        "photograph by 0.0046, so that less shows nothing new"
    )  # fmt: skip
    max_outside_change: Fraction | None = Field(
        0.05, description="Largest mean absolute RGB difference 0..1 in any of 16 x 16 places "
        "outside the box; 0 as it is painted here, so that it catches what else befell a picture"
    )  # fmt: skip
    min_target_score: Fraction | None = Field(
        0.3, description="Least detection score of the target in the edited box"
    )
    min_target_lead: float | None = Field(
        0.1, ge=-1, le=1, description="Least lead of that score over the selected category's in "
        "the edited box: near kinds score for one another"
    )  # fmt: skip
    max_selected_score: Fraction | None = Field(
        0.35, description="Largest score of the selected category in the edited box, what counts "
        "as found, or 0.6 of its score before the edit if that is more"
    )  # fmt: skip
    min_neighbour_ratio: float | None = Field(
        0.5, ge=0, description="Least score of each other object that the box touches and the "
        "edited caption names, as a part of its score before the edit"
    )  # fmt: skip
    min_clip_lead: float | None = Field(
        0.0, ge=-2, le=2, description="Least lead of CLIP's cosine of the edited box with the "
        "target over that with the selected category"
    )  # fmt: skip

    @property
    def asks_detector(self) -> bool:
        """Whether any check needs what a detector sees."""
        checks = (
            self.min_target_score,
            self.min_target_lead,
            self.max_selected_score,
            self.min_neighbour_ratio,
        )
        return any(limit is not None for limit in checks)


class StagesConfig(Config):
    """A section for each step."""

    divergence: DivergenceConfig = DivergenceConfig()
    rewrite: RewriteConfig = RewriteConfig()
    select: SelectConfig = SelectConfig()
    caption: CaptionConfig = CaptionConfig()
    categories: CategoriesConfig = CategoriesConfig()
    ground: GroundConfig = GroundConfig()
    propose: ProposeConfig = ProposeConfig()
    paint: PaintConfig = PaintConfig()
    quality: QualityConfig = QualityConfig()


ASKING = {"rewrite": "gen", "select": "select", "propose": "replace"}
"""The stages that ask a language model -> the file of `prompts/` that each asks with."""


class ServerConfig(Config):
    """How an OpenAI-compatible server is asked, not what; no effect on backends in the actors."""

    base_url: str | None = Field(
        None,
        description="Its /v1 URL; null: OPENAI_BASE_URL or OpenAI itself, serve: the run's own",
    )
    max_concurrency: int = Field(
        64,
        ge=1,
        description="Requests at once from one actor: what the server bears. A pool of asking "
        "stages alone has twice so many rows in work, whatever its batch_size",
    )
    timeout_s: float = Field(
        300,
        gt=0,
        description="Seconds before a request is given up; reasoning models think for minutes",
    )
    max_attempts: int = Field(
        6, ge=1, description="Tries of one request that fails with 429, 5xx or a timeout"
    )
    token_budget: int | None = Field(
        None, gt=0, description="Tokens one actor may use before the run stops; null: any"
    )
    prompt_price: float | None = Field(
        None, ge=0, description="Dollars for a million tokens read; what a run will cost is told"
    )
    completion_price: float | None = Field(
        None, ge=0, description="Dollars for a million tokens written, thoughts included"
    )


ENGINE_KEYS = {
    "model": "model.name",
    "revision": "model.revision",
    "dtype": "model.dtype",
    "tensor_parallel_size": "tensor_parallel_size",
    "max_model_len": "max_model_len",
}
"""Arguments of vLLM's engine that have a key of their own -> that key."""


class LanguageModelConfig(Config):
    """Who answers the prompts: P_gen, P_select and P_replace, or a judge's."""

    backend: Literal["openai", "serve", "vllm", "transformers"] = Field(
        "openai",
        description="openai: any OpenAI-compatible server; serve: vLLM behind Ray Serve on the "
        "run's cluster, from its first row to its last; vllm: an engine in each of the actors; "
        "transformers: in the actors",
    )
    model: ModelConfig = ModelConfig(name="gpt-6-luna")
    server: ServerConfig = ServerConfig()
    tensor_parallel_size: int = Field(
        1,
        ge=1,
        description="serve, vllm: GPUs of one engine; vllm: num_gpus of its pools is the same, if "
        "not below 1",
    )
    max_engines: int = Field(
        1, ge=1, description="serve: engines at most; one is started, more while requests wait"
    )
    max_model_len: int | None = Field(
        None, gt=0, description="serve, vllm: context length; null: model's"
    )
    label_selector: LabelSelector = Field(
        {}, description="serve: as that of a pool, of the machines with its engines"
    )
    engine: dict[str, Any] = Field(
        {},
        description="serve, vllm: other arguments of the engine, by its names (vllm.EngineArgs), "
        "such as {gpu_memory_utilization: 0.8, quantization: fp8}",
    )

    @property
    def has_server(self) -> bool:
        """Whether requests leave the actors."""
        return self.backend in ("openai", "serve")

    @model_validator(mode="after")
    def _the_engine_is_vllm_s(self) -> "LanguageModelConfig":
        if self.engine and self.backend not in ("serve", "vllm"):
            raise ValueError(f"engine: has no effect on the backend {self.backend}")
        if twice := ENGINE_KEYS.keys() & self.engine:
            name = min(twice)
            raise ValueError(f"engine.{name}: stands in language_model.{ENGINE_KEYS[name]}")
        return self


class PoolConfig(Config):
    """Consecutive stages that share one kind of actor."""

    stages: list[str] = Field(min_length=1, description="Names, in the pipeline's order")
    min_actors: int = Field(1, ge=1, description="Kept running")
    max_actors: int = Field(1, ge=1, description="Started when rows queue up")
    num_cpus: float = Field(1, ge=0, description="Of one actor")
    num_gpus: float = Field(0, ge=0, description="Of one actor; a fraction shares a GPU")
    label_selector: LabelSelector = {}
    batch_size: int = Field(
        8,
        ge=1,
        description="Rows a call; no effect where all stages ask a server: its rows go on eight by "
        "eight, as they are answered",
    )
    num_threads: int = Field(1, ge=1, description="CPU threads of torch in one actor")


class OutputConfig(Config):
    """How rows are written."""

    edited_format: EditedFormat = Field(
        "webp", description="Of what is painted: webp or png, without loss (png a third larger), "
        "or jpeg of quality 95, 4:4:4; the scores are of what it keeps"
    )  # fmt: skip
    block_rows: int = Field(64, ge=1, description="Rows committed together: what a kill can cost")
    shard_mb: int = Field(256, ge=1, description="Aimed size of a published Parquet shard, MB")
    row_group_rows: int = Field(100, ge=1, le=100, description="Rows a row group, of <= 100 MB")
    stall_timeout_s: float = Field(
        1200,
        gt=0,
        description="Seconds without a finished block after which a run stops; raise it where "
        "loading a model or making one block takes longer",
    )
    wait_for_cluster_s: float | None = Field(
        None,
        ge=0,
        description="Seconds that a run waits for a cluster which has less than the pools' least "
        "number of actors need; null: 900 where an autoscaler is at work, else 60. No effect on a "
        "Ray that the run starts itself",
    )
