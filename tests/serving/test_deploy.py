"""cluster/serve.yaml on a cluster, by `serve deploy`: deployed, deployed anew, scaled."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml
from form_parts import picture
from load import failures, under_load
from one_cluster import Cluster, free_ports
from served_editor import editor_folder

from reasonray.serving.keys import new_key

pytestmark = [pytest.mark.ray, pytest.mark.nightly, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PICTURE = picture((32, 32))


class Deployed:
    """The file of the repository, changed to fit this machine."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        [self.port] = free_ports(1)
        self.key = new_key(folder / "keys", "tester")
        editor = editor_folder(folder / "editor")
        self.content = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text("utf-8"))
        self.content["http_options"] |= {"host": "127.0.0.1", "port": self.port}
        [self.app] = self.content["applications"]
        self.app["args"] |= {"keys": str(folder / "keys"), "requests_per_minute": None}
        [self.model] = self.app["args"]["models"].values()
        self.model |= {
            "editor": str(editor), "max_batch": 4, "min_replicas": 1, "max_replicas": 2,
            "num_cpus": 0.5, "num_gpus": 0, "downscale_delay_s": 15,
        }  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self) -> None:
        """As a person does, without waiting for it."""
        file = self.folder / "serve.yaml"
        file.write_text(yaml.safe_dump(self.content))
        self.command("deploy", str(file))

    def command(self, *arguments: str) -> None:
        serve = str(Path(sys.executable).parent / "serve")
        done = subprocess.run(
            [serve, *arguments, "--address", self.cluster.jobs_address],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def wait_for(self, *statuses: str) -> str:
        """Until the application is in one of these; what Serve says of it."""
        app: dict[str, Any] = {}
        for _ in range(600):
            answer = httpx.get(f"{self.cluster.jobs_address}/api/serve/applications/", timeout=60)
            app = answer.json()["applications"].get("reasonray", {})
            if app.get("status") in statuses:
                return str(app)
            time.sleep(0.5)
        pytest.fail(f"it is {app}")

    def editors(self) -> list[psutil.Process]:
        title = "ServeReplica:reasonray:editor-editor"
        return [
            process
            for process in psutil.Process(self.cluster.pid).children(recursive=True)
            if process.is_running() and title in " ".join(process.cmdline())
        ]

    def edit(self) -> Any:
        with openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=180
        ) as client:
            begin = time.monotonic()
            client.images.edit(image=PICTURE, prompt="x")
            return time.monotonic() - begin


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    deployed = Deployed(cluster, tmp_path_factory.mktemp("deployed"))
    deployed.deploy()
    deployed.wait_for("RUNNING")
    yield deployed
    deployed.command("shutdown", "-y")


def test_it_edits_who_has_a_key(deployed: Deployed) -> None:
    assert deployed.edit() > 0
    assert httpx.get(f"{deployed.url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{deployed.url}/v1/models").status_code == 401
    large = httpx.post(f"{deployed.url}/v1/images/edits", content=bytes(26 * 2**20))
    assert large.json()["error"]["code"] == "request_too_large"  # the guard's


def test_a_rolling_update_fails_nobody(deployed: Deployed) -> None:
    before = {process.pid for process in deployed.editors()}

    def update() -> None:
        deployed.model["max_batch"] = 3
        deployed.deploy()
        while before & {process.pid for process in deployed.editors()}:
            time.sleep(0.5)
        deployed.wait_for("RUNNING")

    outcomes = under_load(update, deployed.edit, seconds=20)
    assert failures(outcomes) == []
    assert len(outcomes) > 20
    assert {process.pid for process in deployed.editors()} & before == set()


def test_an_update_that_cannot_start_leaves_the_old_one_serving(deployed: Deployed) -> None:
    def update() -> None:
        deployed.app["args"]["safety"] = "no.such:checker"
        deployed.deploy()
        assert "no.such" in deployed.wait_for("DEPLOY_FAILED")

    try:
        outcomes = under_load(update, deployed.edit, seconds=20)
    finally:
        del deployed.app["args"]["safety"]
        deployed.deploy()
        deployed.wait_for("RUNNING")
    assert failures(outcomes) == []


def test_without_keys_it_is_not_deployed(deployed: Deployed) -> None:
    keys = deployed.app["args"].pop("keys")
    try:
        deployed.deploy()
        assert "without a key file everybody" in deployed.wait_for("DEPLOY_FAILED")
        assert deployed.edit() > 0
    finally:
        deployed.app["args"]["keys"] = keys
        deployed.deploy()
        deployed.wait_for("RUNNING")


def test_load_brings_a_second_editor_and_its_end_takes_it_away(deployed: Deployed) -> None:
    counts = []

    def watch() -> None:
        for _ in range(60):
            counts.append(len(deployed.editors()))
            if counts[-1] == 2:
                break
            time.sleep(1)

    outcomes = under_load(watch, deployed.edit, clients=12, seconds=20)
    assert failures(outcomes) == []
    assert max(counts) == 2
    for _ in range(120):
        if len(deployed.editors()) == 1:
            break
        time.sleep(1)
    assert len(deployed.editors()) == 1
    assert deployed.edit() > 0
