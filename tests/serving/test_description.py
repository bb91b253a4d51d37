"""The API against its own description, with requests that schemathesis makes up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from form_parts import picture
from hypothesis import settings
from local_editors import LocalEditors, api
from served_editor import editor_folder

from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import Editor

pytestmark = [pytest.mark.nightly]

PICTURE = picture((32, 32))
made_up = schemathesis.pytest.from_fixture("description")


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = editor_folder(tmp_path_factory.mktemp("described") / "tiny")
    config = ServingConfig(models={"tiny": ServedModel(editor=str(folder))}, anonymous=True)
    plain: Any = Editor
    editors = LocalEditors({"tiny": plain.func_or_class(config.models["tiny"], config)})
    with api(editors, config) as port:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Random bytes are no picture: half of the requests get one."""
    if isinstance(body, dict) and "image" in body and hash(str(body)) % 2:
        body["image"] = PICTURE
        body.pop("mask", None)
        body.pop("mask_image", None)
    return body


@made_up.parametrize()
@settings(max_examples=200)
def test_every_answer_is_one_that_is_described(case: Any) -> None:
    case.call_and_validate(timeout=60)
