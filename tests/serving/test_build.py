"""The application as it is built, before any process of it runs."""

from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from ray import cloudpickle
from ray._common.utils import import_attr
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve._private.utils import call_function_from_import_path
from ray.serve.schema import ServeDeploySchema

from reasonray.serving import guard
from reasonray.serving.app import build
from reasonray.serving.guard import Guard
from reasonray.serving.keys import new_key

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def application(arguments: dict[str, Any]) -> Any:
    """As `serve deploy` makes it of the file's `args`."""
    return call_user_app_builder_with_args_if_necessary(cast(Any, build), arguments)


def deployments(app: Any) -> dict[str, Any]:
    """Name -> deployment, of an application and of those bound to it."""
    bound = app._bound_deployment  # noqa: SLF001  nothing public shows them
    inner = list(bound.init_args[0].values())
    return {each.name: each for each in [bound, *(each._bound_deployment for each in inner)]}  # noqa: SLF001


def test_the_cluster_s_file_is_one_that_serve_takes() -> None:
    content = yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text(encoding="utf-8"))
    schema = ServeDeploySchema.model_validate(content)
    [app] = schema.applications
    assert import_attr(app.import_path) is build
    built = deployments(application(app.args))
    assert set(built) == {"Ingress", "editor-editor"}
    for each in built.values():
        assert each._deployment_config.max_surge_percent == 100  # noqa: SLF001
        graceful = each._deployment_config.graceful_shutdown_timeout_s  # noqa: SLF001
        assert graceful > app.args["deadline_s"]
    assert schema.http_options.request_timeout_s > app.args["deadline_s"]
    assert guard.IMPORT_PATH in (ROOT / "cluster" / "serve.yaml").read_text(encoding="utf-8")


def test_the_guard_is_where_serve_looks_for_it() -> None:
    [middleware] = call_function_from_import_path(guard.IMPORT_PATH)
    assert middleware.cls is Guard


def test_without_keys_it_is_not_built() -> None:
    models = {"a": {"editor": "/shared/editor"}}
    with pytest.raises(ValueError, match="without a key file everybody"):
        application({"models": models})
    assert application({"models": models, "anonymous": True})


def test_no_key_and_no_hash_is_in_what_ray_stores(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = new_key(file, "anna")
    app = application({"models": {"a": {"editor": "/shared/editor"}}, "keys": str(file)})
    hashed = file.read_text().split()[1]
    for each in deployments(app).values():
        stored = cloudpickle.dumps((each.func_or_class, each.init_args, each.init_kwargs))
        assert key.encode() not in stored
        assert hashed.encode() not in stored
