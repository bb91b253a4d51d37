"""The sections of a recipe: pydantic models with a description, unit and default for every key."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
EditedFormat = Literal["webp", "png", "jpeg"]


class Config(BaseModel):
    """Base of every section: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Config):
    """Which weights, and where they run."""

    name: str = Field(
        description="Hub id, a local folder, or `package:FOLDER` for one inside an installed "
        "Python package"
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
        "SCENERY plain (96x96, as by default) or real (1:3 to 3:1, small, cut, several and held "
        "objects), MEGAPIXELS the most of a real picture (by default 1)"
    )
    split: str = Field("train", description="v3det: train, val or test; no effect elsewhere")
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
    scheduled_sampling_beta: Fraction = Field(
        1.0,
        description="GLIGEN's tau: box and phrase are heard for this first part of the steps; all, "
        "as in GLIGEN's own inpainting (0.3 is for its generation)",
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
    min_divergence: float | None = Field(
        0.001, ge=0, description="Eq. 1 on the made pair: least mean squared difference of RGB 0..1"
    )
    min_target_score: Fraction | None = Field(
        0.3, description="Least detection score of the target in the edited box"
    )
    max_selected_score: Fraction | None = Field(
        0.5, description="Largest score of the selected category left in the edited box"
    )
    max_outside_change: Fraction | None = Field(
        0.02, description="Largest mean absolute RGB difference 0..1 outside the box"
    )


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
    """How an OpenAI-compatible server is asked, not what; no effect on the other backends."""

    base_url: str | None = Field(
        None, description="Its /v1 URL; null: OPENAI_BASE_URL or OpenAI itself"
    )
    max_concurrency: int = Field(32, ge=1, description="Requests at once from one actor")
    timeout_s: float = Field(60, gt=0, description="Seconds before a request is given up")
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


class LanguageModelConfig(Config):
    """Who answers P_gen, P_select and P_replace."""

    backend: Literal["openai", "vllm", "transformers"] = Field(
        "openai", description="An OpenAI-compatible server, vLLM's engine in the actors, or "
        "transformers in the actors"
    )  # fmt: skip
    model: ModelConfig = ModelConfig(name="gpt-6-luna")
    server: ServerConfig = ServerConfig()
    tensor_parallel_size: int = Field(
        1,
        ge=1,
        description="vllm: GPUs of one engine; num_gpus of its pools is the same, if not below 1",
    )
    max_model_len: int | None = Field(None, gt=0, description="vllm: context length; null: model's")


class ConnectorConfig(Config):
    """The trained link from the multimodal model to the UNet's cross-attention."""

    kind: Literal["mlp", "resampler"] = Field(
        "mlp", description="mlp: token by token, as in the paper; resampler: learned queries"
    )
    num_queries: int = Field(77, ge=1, description="resampler: tokens that the UNet attends to")
    num_layers: int = Field(2, ge=1, description="resampler: layers")
    num_heads: int = Field(8, ge=1, description="resampler: attention heads")

    def gives(self, num_tokens: int) -> bool:
        """Whether it gives the UNet so many tokens, whatever it reads."""
        return self.kind == "resampler" and self.num_queries == num_tokens


class MachinesConfig(Config):
    """How a training is spread over processes and survives their loss; changes no step's result."""

    num_workers: int = Field(1, ge=1, description="Training processes")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Each worker has all weights (ddp), or a slice of them and of the optimizer's "
        "state (fsdp: for a UNet that does not fit); no effect on one worker",
    )
    micro_batch_size: int = Field(
        16, ge=1, description="Samples a worker computes at once; gradients are accumulated"
    )
    feature_actors: int = Field(1, ge=1, description="Processes that compute the features")
    feature_batch_size: int = Field(8, ge=1, description="Records a call of the frozen models")
    num_cpus: float = Field(1, gt=0, description="Of one process")
    num_gpus: float = Field(0, ge=0, description="Of one process, of a feature actor too")
    num_threads: int = Field(1, ge=1, description="CPU threads of torch in one process")
    max_failures: int = Field(3, ge=0, description="Lost workers or nodes survived without a stop")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints")


class ValidationConfig(Config):
    """What is measured and drawn of the held-out inputs; changes no step's result."""

    validate_every: int = Field(500, ge=1, description="Steps between held-out losses and samples")
    num_samples: int = Field(4, ge=0, description="Held-out edits drawn each time")
    num_inference_steps: int = Field(20, ge=1, description="Of such an edit")
    guidance_scale: float = Field(7.5, ge=0, description="Of such an edit: the instruction's")
    image_guidance_scale: float = Field(1.5, ge=0, description="Of such an edit: the picture's")


class EditorOutputConfig(Config):
    """Where figures are shown, and the form of the finished editor; changes no step's result."""

    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        ["tensorboard"],
        description="Shown there: losses and held-out edits; each has to be installed, wandb and "
        "mlflow are told where by their own environment variables",
    )
    lora_export: Literal["merged", "separate"] = Field(
        "merged",
        description="Adapters in the finished editor: merged into the UNet, or a file beside it "
        "that diffusers' load_lora_weights reads; no effect without lora_rank",
    )


class EditorConfig(Config):
    """The editor, Eq. 8 and 9, and its training; it decides nothing about a dataset."""

    base: ModelConfig = Field(
        ModelConfig(name="timbrooks/instruct-pix2pix"),
        description="InstructPix2Pix or Stable Diffusion, diffusers layout: VAE, UNet, scheduler, "
        "text encoder",
    )
    vae: ModelConfig | None = Field(None, description="VAE; null: the base's own")
    condition: Literal["mllm", "text"] = Field(
        "mllm", description="mllm: F(x, I), ours; text: the base's text encoder, InstructPix2Pix"
    )
    mllm: ModelConfig = Field(
        ModelConfig(name="llava-hf/llava-1.5-7b-hf"), description="Reads picture and instruction"
    )
    tokens: Literal["all", "text", "last"] = Field(
        "all",
        description="The mllm's states that are read: all; those after the picture's; the last one "
        "alone, which needs the least data and cache",
    )
    connector: ConnectorConfig = ConnectorConfig()
    lora_rank: int | None = Field(
        None, ge=1, description="Train adapters of this rank on the UNet's attention; null: all"
    )
    image_size: int = Field(256, gt=0, description="Side of the square pictures trained on, pixels")
    flip: bool = Field(
        False, description="Each pair a second time mirrored; wrong where instructions say left"
    )
    features: Literal["cached", "online"] = Field(
        "cached", description="Frozen models' outputs: once beforehand, or in every step"
    )
    validation_fraction: Fraction = Field(
        0.05, lt=1, description="Part of the inputs that is held out, not trained on"
    )
    reasoning_ratio: Fraction = Field(
        0.5, description="Part of the samples with the reasoning instruction; others: the direct"
    )
    alignment_steps: int = Field(
        1000,
        ge=0,
        description="First the connector alone learns to give what the text encoder gives for the "
        "direct instruction, or, where that is of another length, to have the UNet predict the "
        "same; 0: left out",
    )
    num_steps: int = Field(10_000, ge=0, description="Then UNet and connector are fine-tuned")
    batch_size: int = Field(1024, ge=1, description="Samples an optimiser step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="Of AdamW, in both stages")
    schedule: Literal["constant", "cosine"] = Field("constant", description="After the warm-up")
    num_warmup_steps: int = Field(500, ge=0, description="Linear warm-up of each stage")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm")
    ema_decay: Fraction = Field(0.9999, description="Of the weights' moving average")
    dropout: Fraction = Field(
        0.05, le=1 / 3, description="Part of the samples without the picture, as many without the "
        "instruction, as many without either"
    )  # fmt: skip
    min_snr_gamma: float | None = Field(None, gt=0, description="Min-SNR weighting; null: none")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the forward pass; auto: bfloat16 where the device computes in it"
    )
    # Of these sections no step's result follows: `content` leaves them out.
    machines: MachinesConfig = MachinesConfig()
    validation: ValidationConfig = ValidationConfig()
    output: EditorOutputConfig = EditorOutputConfig()

    @model_validator(mode="after")
    def _settings_fit_one_another(self) -> "EditorConfig":
        if self.batch_size % self.machines.num_workers:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by machines.num_workers "
                f"{self.machines.num_workers}"
            )
        if self.flip and self.features == "online":
            raise ValueError("flip: mirrored variants are cached; set features to cached")
        return self

    def content(self) -> dict[str, Any]:
        """Everything that a step's result follows from."""
        return self.model_dump(mode="json", exclude={"machines", "validation", "output"})


class PoolConfig(Config):
    """Consecutive stages that share one kind of actor."""

    stages: list[str] = Field(min_length=1, description="Names, in the pipeline's order")
    min_actors: int = Field(1, ge=1, description="Kept running")
    max_actors: int = Field(1, ge=1, description="Started when rows queue up")
    num_cpus: float = Field(1, ge=0, description="Of one actor")
    num_gpus: float = Field(0, ge=0, description="Of one actor; a fraction shares a GPU")
    batch_size: int = Field(8, ge=1, description="Rows a call")
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
