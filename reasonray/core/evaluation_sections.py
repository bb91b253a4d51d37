"""The recipe's section `evaluation`: how editors are measured."""

from typing import Any, Literal

from pydantic import Field, model_validator

from reasonray.core.sections import Config, LabelSelector, LanguageModelConfig, ModelConfig


class JudgeConfig(Config):
    """A language model that sees, and scores edits, with a reason for each score."""

    language_model: LanguageModelConfig | None = Field(
        None,
        description="Who judges, with the keys of the section language_model; null: nobody, the "
        "metrics alone are measured",
    )
    num_repeats: int = Field(
        1, ge=1, description="Times that each question is asked; a score is their mean"
    )
    temperature: float = Field(
        0.0,
        ge=0,
        description="Of the first try; a model that thinks runs into loops at 0: give it its "
        "makers' own (Qwen3: 0.6), each repeat has a seed of its own",
    )
    max_tokens: int = Field(
        1024, gt=0, description="Of one reply, thoughts included: 8192 for a model that thinks"
    )
    num_retries: int = Field(
        3, ge=0, description="Times an invalid reply is asked for again, then it is a failure"
    )
    max_side: int = Field(
        768,
        gt=0,
        description="Pixels of a picture's longer side as the judge sees it; larger ones are made "
        "so small by Lanczos. 768 is what the field's benchmarks show",
    )

    @model_validator(mode="after")
    def _the_server_is_there(self) -> "JudgeConfig":
        if self.language_model is not None and self.language_model.backend == "serve":
            raise ValueError(
                "language_model.backend: serve belongs to a run of generate; take openai with the "
                "server's base_url, vllm or transformers"
            )
        return self


class EvaluationConfig(Config):
    """How editors under test are run, and by what their pictures are measured."""

    side: int = Field(
        512,
        ge=8,
        description="A pipeline edits a picture whose shorter side has at most so many pixels; the "
        "result is brought back to the picture's own size",
    )
    arguments: dict[str, dict[str, Any]] = Field(
        {},
        description="Of a pipeline's call or a server's request, by the editor's name, `*` for all "
        "that take them: {'*': {num_inference_steps: 20}}",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Of the pipelines' weights; auto: float16 on a GPU, float32 on a CPU"
    )
    batch_size: int = Field(4, ge=1, description="Edits of one size in one call of a pipeline")
    chunk_rows: int = Field(
        16, ge=1, description="Rows that are edited or measured together: what a kill can cost"
    )
    timeout_s: float = Field(
        600, gt=0, description="Seconds after which an edit that has not come is a failure"
    )
    num_actors: int = Field(
        1, ge=1, description="Processes that edit, and as many that measure meanwhile"
    )
    num_cpus: float = Field(1, ge=0, description="Of one process")
    num_gpus: float = Field(
        0, ge=0, description="Of one process; 0.5 where an editor and the metrics share one"
    )
    label_selector: LabelSelector = {}
    clip: ModelConfig = Field(
        ModelConfig(name="openai/clip-vit-base-patch32"), description="Of CLIP-I and CLIP-T"
    )
    dino: ModelConfig = Field(ModelConfig(name="facebook/dino-vits16"), description="Of DINO")
    judge: JudgeConfig = JudgeConfig()

    def arguments_of(self, editor: str) -> dict[str, Any]:
        """What one editor's calls are given."""
        return {**self.arguments.get("*", {}), **self.arguments.get(editor, {})}
