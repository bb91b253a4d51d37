"""A run's own language model: vLLM behind Ray Serve on the run's cluster, started for its rows.

Where an engine in a pool's actors (`backend: vllm`) answers one batch after the other, this one has
all rows in work at once, from all actors, and gets more engines while requests wait. It listens on
the cluster's network, without a key.
"""

import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import ray

from reasonray.core.console import say
from reasonray.core.errors import RunError
from reasonray.core.extras import explained, require
from reasonray.core.recipe import Recipe
from reasonray.core.sections import ASKING, LanguageModelConfig, PoolConfig
from reasonray.core.session import Session
from reasonray.models import weights
from reasonray.models.language_model import served_name

_IDLE_S = 600.0
"""Seconds without a request after which an engine ends, also that of a run that was killed."""

_MAX_ONGOING = 512
"""Requests that one engine takes in; it batches what it has room for."""


def pools(recipe: Recipe) -> list[PoolConfig]:
    """What room the model needs beside the recipe's pools; none if it does not serve one."""
    if not _is_served(recipe):
        return []
    model = recipe.language_model
    return [
        PoolConfig(
            stages=["language_model"],
            min_actors=1,
            max_actors=model.max_engines,
            # The process that is asked, and the engine's.
            num_cpus=2,
            num_gpus=0 if model.model.device == "cpu" else model.tensor_parallel_size,
            label_selector=model.label_selector,
        )
    ]


@contextlib.contextmanager
def served(recipe: Recipe, session: Session) -> Iterator[Recipe]:
    """The model, up and answering, until the block ends; nothing where none is to be served.

    Args:
        recipe: its pools ask.
        session: of the run; what an earlier one of this output has left running is ended.

    Yields:
        The recipe, with the model's address.

    Raises:
        UserError: vLLM or Ray Serve is not installed.
        RunError: it does not start.
    """
    if not _is_served(recipe):
        yield recipe
        return
    require("vllm")
    # It tells of itself when it is imported; a failure is raised.
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    logging.getLogger("vllm").setLevel(logging.ERROR)
    with explained("serve"):
        from ray import serve
        from ray.serve.llm import build_openai_app
    # Serve sets its own level when it is imported.
    for name in ("ray.serve", "ray.llm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    model = recipe.language_model
    digest = hashlib.sha256(str(session.output).encode()).hexdigest()[:8]
    every = f"reasonray-language-model-{digest}-"
    name = f"{every}{session.number}"
    serve.start(
        http_options={"host": "0.0.0.0", "port": _free_port()},
        logging_config={"enable_access_log": False},
    )
    for other in serve.status().applications:
        if other.startswith(every):
            serve.delete(other)  # a killed run's; its engines have the GPUs
    say(f"{session.output}: starting {model.model.name} on the cluster")
    try:
        try:
            serve.run(
                build_openai_app({"llm_configs": [_engine(model)]}),
                name=name,
                route_prefix=f"/{name}",
            )
        except RuntimeError as error:
            raise RunError(
                f"language_model: vLLM did not start {model.model.name}: "
                f"{' '.join(str(error).split())}"
            ) from error
        address = f"http://{_head()}:{_port()}/{name}/v1"
        server = model.server.model_copy(update={"base_url": address})
        yield recipe.model_copy(
            update={"language_model": model.model_copy(update={"server": server})}
        )
    finally:
        # Also where the run is stopped while it starts.
        serve.delete(name)


def _is_served(recipe: Recipe) -> bool:
    asks = any(not ASKING.keys().isdisjoint(pool.stages) for pool in recipe.pools)
    return recipe.language_model.backend == "serve" and asks


def _engine(model: LanguageModelConfig) -> dict[str, Any]:
    """As `ray.serve.llm.LLMConfig` takes it."""
    config: dict[str, Any] = {
        "model_loading_config": {
            "model_id": served_name(model),
            "model_source": weights.resolve(model.model),
        },
        "engine_kwargs": {
            "revision": model.model.revision,
            "dtype": model.model.dtype,
            "tensor_parallel_size": model.tensor_parallel_size,
            "max_model_len": model.max_model_len,
            **{"enable_prefix_caching": True, "seed": 0} | model.engine,
        },
        "deployment_config": {
            "max_ongoing_requests": _MAX_ONGOING,
            "autoscaling_config": {
                # None: what a killed run has left behind gives its GPUs back.
                "min_replicas": 0,
                "initial_replicas": 1,
                "max_replicas": model.max_engines,
                "target_ongoing_requests": _MAX_ONGOING // 4,
                "downscale_delay_s": _IDLE_S,
            },
        },
    }
    if model.label_selector:
        config["deployment_config"]["placement_group_bundle_label_selector"] = [
            model.label_selector
        ]
    if model.model.device == "cpu":
        config["placement_group_config"] = {"bundles": [{"CPU": 1}]}
    return config


def _head() -> str:
    """The node where Serve always listens."""
    heads = [node for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
    address: str = heads[0]["NodeManagerAddress"]
    return address


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def _port() -> int:
    """Where Serve listens: a port of an earlier start, if there was one."""
    # Nothing public tells. Checked with Ray 2.60.
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None, "Serve has been started"
    port: int = client.http_config.port
    return port
