"""What the two RayServices serve: their serveConfigV2, in Serve's words and in ours."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from manifests import groups, machines, pods, read, serve_config, served_language_model
from one_cluster import ROOT

from reasonray.core import recipe as recipes
from reasonray.serving import guard
from reasonray.serving.config import ServingConfig


@pytest.mark.parametrize("app", ["editor", "language-model"])
def test_serve_takes_it(app: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(serve_config(app))
    assert schema.http_options.port == 8000
    assert [each.route_prefix for each in schema.applications] == ["/"]


def test_the_editor_s_is_the_file_s_with_other_folders() -> None:
    config, file = serve_config("editor"), yaml.safe_load((ROOT / "cluster/serve.yaml").read_text())
    for each in (config, file):
        each["applications"][0]["args"]["models"]["editor"].pop("editor")
    assert config == file


def test_the_editor_s_folders_are_those_that_are_mounted() -> None:
    config = ServingConfig.model_validate(serve_config("editor")["applications"][0]["args"])
    [model] = config.models.values()
    _, worker = pods(read("editor"))
    mounts = {each["mountPath"]: each["name"] for each in worker["containers"][0]["volumeMounts"]}
    assert mounts[model.editor] == "editor"
    assert config.keys is not None
    assert mounts[str(Path(config.keys).parent)] == "keys"
    [fetch] = worker["initContainers"]
    assert fetch["command"][-1] == model.editor
    assert {"name": "editor", "mountPath": model.editor} in fetch["volumeMounts"]


def test_the_editor_s_pods_fetch_it(tmp_path: Path) -> None:
    """The command as it stands there, of a folder in place of a bucket."""
    [fetch] = list(pods(read("editor")))[1]["initContainers"]
    *command, source, target = fetch["command"]
    assert (command[0], source) == ("python", "$(SERVED_EDITOR)")  # Kubernetes expands it
    (tmp_path / "made" / "unet").mkdir(parents=True)
    (tmp_path / "made" / "model_index.json").write_text("{}")
    (tmp_path / "made" / "unet" / "config.json").write_text("[]")
    mounted = tmp_path / "editor"
    mounted.mkdir()
    for uri in (f"file://{tmp_path}/made", f"file://{tmp_path}/made/"):
        subprocess.run([sys.executable, *command[1:], uri, str(mounted)], check=True)
        files = {str(each.relative_to(mounted)) for each in mounted.rglob("*") if each.is_file()}
        assert files == {"model_index.json", "unet/config.json"}
    assert target == "/editor"


@pytest.mark.parametrize("replicas", ["min", "max"])
def test_workers_hold_the_editor_s_replicas(replicas: str) -> None:
    config = ServingConfig.model_validate(serve_config("editor")["applications"][0]["args"])
    [model] = config.models.values()
    there = machines(read("editor"), f"{replicas}Replicas")
    count = getattr(model, f"{replicas}_replicas")
    assert sum(each["GPU"] for each in there) == count * model.num_gpus
    assert sum(each["CPU"] for each in there) > count * model.num_cpus


def test_the_guard_stands_in_every_proxy_of_the_editor() -> None:
    variable = {
        "name": "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "value": guard.IMPORT_PATH,
    }  # fmt: skip
    for pod in pods(read("editor")):
        assert variable in pod["containers"][0]["env"]


@pytest.mark.slow
def test_ray_s_language_models_take_it() -> None:
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    assert LLMConfig.model_validate(served_language_model())
    with pytest.raises(ValueError, match="engine_kwarg"):
        LLMConfig.model_validate({**served_language_model(), "engine_kwarg": {}})


def test_the_language_model_is_the_recipe_s() -> None:
    served, config = served_language_model(), recipes.load("current").language_model
    assert served["model_loading_config"]["model_id"] == config.model.name
    assert served["engine_kwargs"] == {
        "dtype": config.model.dtype, "max_model_len": config.max_model_len,
    }  # fmt: skip
    scaling = served["deployment_config"]["autoscaling_config"]
    [group] = groups(read("language-model"))
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (
        group["minReplicas"], group["maxReplicas"],
    )  # fmt: skip
