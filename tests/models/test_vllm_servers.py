"""The zoo's model behind vLLM's own server and behind Ray Serve, as in process."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from one_cluster import free_ports

from reasonray import cluster
from reasonray.core.recipe import load
from reasonray.core.sections import LanguageModelConfig, ModelConfig, ServerConfig
from reasonray.core.session import Session
from reasonray.generation import language_server
from reasonray.models.language_model import ReplyFailure, Request, load_language_model
from reasonray.models.weights import resolve
from reasonray.prompts import template
from reasonray.prompts.examples import varied
from reasonray.prompts.replies import ReplyError, parse_replacement, replacement_schema
from reasonray.sources.mini.catalogue import CATEGORIES

pytest.importorskip("vllm", reason="needs vLLM; make test-vllm brings it")

# vLLM and torch warn of themselves; each server takes minutes to start.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(1200)]

ZOO = "package:reasonray/mini/zoo/language_model"
COLOURS = ["white", "blue", "pink", "green", "yellow", "grey", "orange"]
NUM_REQUESTS = 200
MAX_CONTEXT = 1024

# On CPUs vLLM 0.32 ends where the prompt of a request with a seed is read in two pieces.
WHOLE_PROMPTS = {"enable_chunked_prefill": False}

Replies = Sequence[str | ReplyFailure]

SCENES = [
    (f"{category.phrase} on a {colour} background", category.name)
    for colour in COLOURS
    for category in CATEGORIES.values()
][:NUM_REQUESTS]


def requests() -> list[Request]:
    prompt = template.load("replace")
    return [
        Request(
            prompt.messages(
                caption=caption,
                categories=name,
                objects=f"{name} (11 % of the picture, square, centre)",
                **varied("replace", seed),
            ),
            replacement_schema(),
            seed,
            temperature=1.0,
            max_tokens=160,
        )
        for seed, (caption, name) in enumerate(SCENES)
    ]


def num_json(replies: Replies) -> int:
    count = 0
    for reply in replies:
        try:
            json.loads(reply if isinstance(reply, str) else "")
        except ValueError:
            continue
        count += 1
    return count


def num_valid(replies: Replies) -> int:
    count = 0
    for (caption, name), reply in zip(SCENES, replies, strict=True):
        try:
            parse_replacement(
                reply if isinstance(reply, str) else "", caption=caption, categories=[name]
            )
        except ReplyError:
            continue
        count += 1
    return count


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `vllm serve`."""
    [port] = free_ports(1)
    log = tmp_path_factory.mktemp("vllm") / "log"
    words = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", resolve(ModelConfig(name=ZOO)), "--served-model-name", ZOO),
        *("--dtype", "float32", "--max-model-len", str(MAX_CONTEXT), "--seed", "0"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-enable-chunked-prefill"),
    ]
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            return
    raise AssertionError(log.read_text()[-3000:])


def test_both_servers_keep_the_contract_of_the_model_in_process(
    own_server: str, tmp_path: Path
) -> None:
    zoo = ModelConfig(name=ZOO, dtype="float32", device="cpu")
    in_process = load_language_model(LanguageModelConfig(backend="transformers", model=zoo))
    expected = num_valid(in_process.reply(requests()))
    server = load_language_model(
        LanguageModelConfig(backend="openai", model=zoo, server=ServerConfig(base_url=own_server))
    )
    of_vllm = server.reply(requests())
    assert num_json(of_vllm) == NUM_REQUESTS
    assert num_valid(of_vllm) >= expected - 0.03 * NUM_REQUESTS

    settings = [
        "language_model.backend=serve",
        f"language_model.model={{name: '{ZOO}', dtype: float32, device: cpu}}",
        f"language_model.max_model_len={MAX_CONTEXT}",
        f"language_model.engine={json.dumps(WHOLE_PROMPTS)}",
    ]
    recipe = load("mini", settings)
    with (
        cluster.connected([*recipe.pools, *language_server.pools(recipe)]),
        language_server.served(recipe, Session(tmp_path, tmp_path, 1)) as with_address,
    ):
        of_serve = load_language_model(with_address.language_model).reply(requests())
    assert of_serve == of_vllm


def test_a_run_starts_its_own_server(tmp_path: Path) -> None:
    settings = {
        "backend": "serve",
        "model.device": "cpu",
        "model.dtype": "float32",
        "max_model_len": MAX_CONTEXT,
        "engine": json.dumps(WHOLE_PROMPTS),
    }
    command = str(Path(sys.executable).with_name("reasonray"))
    words = [f"--set=language_model.{key}={setting}" for key, setting in settings.items()]
    result = subprocess.run(
        [command, "generate", "mini", "--limit=8", f"--output={tmp_path / 'out'}", *words],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "starting package:reasonray/mini/zoo/language_model on the cluster" in result.stderr
    assert "INFO" not in result.stderr
    assert "8 of 8 inputs became samples" in result.stdout
