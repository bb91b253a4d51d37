"""What a service is started with, and the limits that no setting moves."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from reasonray.core.sections import Config

MAX_BODY = 25 * 2**20
"""Bytes of a request's body: a picture, a mask and the form's fields."""

MAX_PIXELS = 2**24
"""Of a picture, and of all pictures of one reply together the double."""

MIN_SIDE = 32
"""Pixels of a picture's shorter side."""

MAX_ASPECT = 10
"""A picture's longer side divided by its shorter; panoramas have up to 8."""

MAX_PROMPT = 4000
"""Characters."""

MAX_N = 10
MAX_PARTIALS = 3
MAX_STEPS = 100
MAX_SEED = 2**63 - 1


Name = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class ServedModel(Config):
    """One editor and its replicas."""

    editor: str = Field(
        description="What `reasonray train` has made: a folder, a URI (s3://, "
        "gs://, az://), or a hub id"
    )
    revision: str | None = Field(None, description="Hub commit or tag; no effect on folders")
    device: str = Field("auto", description="auto (a GPU if the replica has one), cpu or cuda")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Of the weights; auto: float16 on a GPU, float32 on a CPU"
    )
    side: int | None = Field(
        None,
        ge=32,
        description="Pictures are edited with a shorter side of at most so many pixels, and "
        "brought back to their own size; null: as the editor was trained",
    )
    max_batch: PositiveInt | dict[PositiveInt, PositiveInt] = Field(
        4,
        description="Edits of one size that share a step of the model, or by the longest side in "
        "pixels, {512: 8, 768: 4}, beyond which they go alone; two cores gain nothing beyond 4, a "
        "GPU measures it with tests/benchmarks/serve_engine.py. What does not fit is halved",
    )
    min_replicas: int = Field(1, ge=0, description="0: the first request waits for the loading")
    max_replicas: int = Field(1, ge=1, description="Processes, each with the whole model")
    downscale_delay_s: float = Field(
        300, ge=0, description="Seconds of less load before a process ends"
    )
    num_cpus: float = Field(0.5, gt=0, description="Of a replica, as Ray counts them")
    num_gpus: float = Field(0, ge=0, description="Of a replica; a fraction shares a GPU")

    @property
    def largest_batch(self) -> int:
        """Of all sizes."""
        batches = self.max_batch
        return batches if isinstance(batches, int) else max(batches.values(), default=1)

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> "ServedModel":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}"
            )
        return self


class ServingConfig(Config):
    """The arguments of `reasonray.serving.app:build`, in cluster/serve.yaml under `args`."""

    models: dict[Name, ServedModel] = Field(
        min_length=1, description="Name that clients use -> editor; the first is the default"
    )
    keys: str | None = Field(
        None, description="File of hashed keys, of `reasonray keys`, readable on every node"
    )
    anonymous: bool = Field(
        False, description="Without keys: only where nobody else reaches the port"
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Of one key, in each of the two ingress replicas; null: any"
    )
    deadline_s: float = Field(60, gt=0, description="Of a request, waiting included; then 504")
    mark: bool = Field(
        True, description="Say in every picture's metadata that a model made it (IPTC)"
    )
    c2pa: str | None = Field(
        None,
        description="PEM file of a certificate, those that vouch for it and its private key, on "
        "every node, by which pictures are signed (C2PA Content Credentials); null: they are not",
    )
    safety: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="module:function(image, prompt) -> reason or None, called with each result "
        "before it leaves; a reason refuses it; null: none",
    )

    @model_validator(mode="after")
    def _has_keys(self) -> "ServingConfig":
        if self.keys is None and not self.anonymous:
            raise ValueError(
                "keys: without a key file everybody who reaches the port is served; make one with "
                "`reasonray keys FILE`, or set anonymous: true"
            )
        if self.keys is not None and self.anonymous:
            raise ValueError("anonymous: true has no meaning beside keys; give one of them")
        return self
