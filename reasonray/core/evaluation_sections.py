"""The recipe's section `evaluation`: how editors are measured."""

from typing import Any

from pydantic import Field

from reasonray.core.sections import Config, ModelConfig


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
    dtype: str = Field("auto", description="As a model's, of the pipelines")
    batch_size: int = Field(4, ge=1, description="Edits of one size in one call of a pipeline")
    chunk_rows: int = Field(
        16, ge=1, description="Rows that are edited or measured together: what a kill can cost"
    )
    timeout_s: float = Field(
        600, gt=0, description="Seconds after which an edit that has not come is a failure"
    )
    num_actors: int = Field(1, ge=1, description="Processes that edit, and as many that measure")
    num_cpus: float = Field(1, ge=0, description="Of one process")
    num_gpus: float = Field(0, ge=0, description="Of one process")
    clip: ModelConfig = Field(
        ModelConfig(name="openai/clip-vit-base-patch32"), description="Of CLIP-I and CLIP-T"
    )
    dino: ModelConfig = Field(ModelConfig(name="facebook/dino-vits16"), description="Of DINO")

    def arguments_of(self, editor: str) -> dict[str, Any]:
        """What one editor's calls are given."""
        return {**self.arguments.get("*", {}), **self.arguments.get(editor, {})}
