"""The recipe's section `editor` and those inside it, as `sections` has the others."""

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from reasonray.core.sections import Config, Fraction, LabelSelector, ModelConfig


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

    num_workers: int | None = Field(
        None, ge=1, description="Training processes; null: as many as the cluster has GPUs for and "
        "batch_size divides by, one without num_gpus"
    )  # fmt: skip
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Each worker has all weights (ddp), or a slice of them and of the optimizer's "
        "state (fsdp: for a UNet that does not fit); no effect on one worker",
    )
    micro_batch_size: int = Field(
        16, ge=1, description="Samples a worker computes at once; gradients are accumulated"
    )
    feature_actors: int | None = Field(
        None, ge=1, description="Processes that compute the features; null: as many as the cluster "
        "has GPUs for, one without num_gpus"
    )  # fmt: skip
    feature_batch_size: int = Field(8, ge=1, description="Crops a call of the frozen models")
    num_cpus: float = Field(1, gt=0, description="Of one process")
    num_gpus: float = Field(0, ge=0, description="Of one process, of a feature actor too")
    label_selector: LabelSelector = {}
    num_threads: int = Field(1, ge=1, description="CPU threads of torch in one process")
    max_failures: int = Field(3, ge=0, description="Lost workers or nodes survived without a stop")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints")

    def processes(self, num_gpus: float, batch_size: int) -> tuple[int, int]:
        """Workers and feature actors: those that are set, else those that so many GPUs take."""
        if not self.num_gpus:
            most = 1
        elif self.num_gpus < 1:
            # A fraction lies on a single GPU.
            most = int(num_gpus) * int(1 / self.num_gpus)
        else:
            most = int(num_gpus // math.ceil(self.num_gpus))
        workers = max((n for n in range(1, most + 1) if batch_size % n == 0), default=1)
        return self.num_workers or workers, self.feature_actors or max(most, 1)


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
        "text",
        description="The mllm's states that are read: those after the picture's, which have seen "
        "it; the last one alone, which needs the least data and cache; or all, of which the "
        "picture's are 95 % of a cache",
    )
    connector: ConnectorConfig = ConnectorConfig()
    lora_rank: int | None = Field(
        None, ge=1, description="Train adapters of this rank on the UNet's attention; null: all"
    )
    image_size: int = Field(
        256, gt=0, description="Shorter side of the pictures trained on, pixels; the longer is 1, "
        "1 1/4, 1 1/2, 1 3/4 or 2 times as long, as comes nearest to the picture"
    )  # fmt: skip
    num_crops: int = Field(
        4,
        ge=1,
        description="Crops of each pair, one an epoch in turn, all of which hold what was "
        "edited: one as large as the picture allows, the others up to 1.125 times smaller, as "
        "InstructPix2Pix cuts 256 out of 256 to 288 pixels; each is kept in the cache",
    )
    flip: bool = Field(
        True,
        description="Every second crop is mirrored, unless an instruction or caption says left "
        "or right; no effect where num_crops is 1",
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
        "direct instruction, of one edit in one wording; or, where that is of another length, to "
        "have the UNet predict the same; 0: left out",
    )
    alignment_learning_rate: float = Field(
        1e-3, gt=0, description="Of AdamW meanwhile: the connector starts from nothing (as LLaVA's)"
    )
    num_epochs: float = Field(
        25, gt=0, description="Then UNet and connector are fine-tuned: so many times each sample "
        "(InstructPix2Pix: 23 to 33); no effect with num_steps"
    )  # fmt: skip
    num_steps: int | None = Field(
        None, ge=0, description="Of the fine-tuning; null: from num_epochs and the data"
    )
    early_stop: int | None = Field(
        None,
        ge=1,
        description="Validations in a row without a lower held-out loss after which the "
        "fine-tuning ends, with the weights of the lowest; null: it runs to its end",
    )
    batch_size: int = Field(1024, ge=1, description="Samples an optimiser step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="Of AdamW in the fine-tuning")
    schedule: Literal["constant", "cosine"] = Field("constant", description="After the warm-up")
    num_warmup_steps: int = Field(
        100, ge=0, description="Linear warm-up of each stage, a tenth of its steps at most"
    )
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
        if self.batch_size % (self.machines.num_workers or 1):
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by machines.num_workers "
                f"{self.machines.num_workers}"
            )
        if self.early_stop is not None and not self.validation_fraction:
            raise ValueError("early_stop: nothing is held out; raise validation_fraction above 0")
        return self

    def steps(self, num_samples: float) -> int:
        """Of the fine-tuning, on so many samples."""
        if self.num_steps is not None:
            return self.num_steps
        return math.ceil(self.num_epochs * num_samples / self.batch_size)

    def content(self) -> dict[str, Any]:
        """Everything that a step's result follows from."""
        content = self.model_dump(mode="json", exclude={"machines", "validation", "output"})
        if self.early_stop is not None:
            # Where it ends, then, follows from when it looks.
            content["validate_every"] = self.validation.validate_every
        return content
