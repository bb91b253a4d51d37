"""The API against its own description, with requests that schemathesis makes up."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from bad_requests import URL
from form_parts import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from local_editors import LocalEditors, api
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from served_editor import editor_folder

from reasonray.serving.config import ServedModel, ServingConfig
from reasonray.serving.editor import Editor

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

PICTURE = picture((32, 32))


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = editor_folder(tmp_path_factory.mktemp("described") / "tiny")
    config = ServingConfig(models={"tiny": ServedModel(editor=str(folder))}, anonymous=True)
    plain: Any = Editor
    editors = LocalEditors({"tiny": plain.func_or_class(config.models["tiny"], config)})
    with api(editors, config) as port:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_every_answer_is_one_that_is_described(description: Any) -> None:
    statuses: dict[str, Counter[int]] = {}

    def ask(operation: Any) -> None:
        seen = statuses.setdefault(operation.path, Counter())
        cases = operation.as_strategy()
        if operation.path == URL:
            cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        # Random bytes are no picture: half of the requests get one.
        @given(case=cases, is_picture=st.booleans())
        @settings(max_examples=250 if operation.path == URL else 10)
        def check(case: Any, is_picture: bool) -> None:
            if is_picture and isinstance(case.body, dict) and "image" in case.body:
                masks = ("mask", "mask_image")
                fields = {name: value for name, value in case.body.items() if name not in masks}
                case.body = {**fields, "image": PICTURE}
            answer = case.call(timeout=60)
            seen[answer.status_code] += 1
            # A schema cannot say all that is refused (a picture of 31 pixels, a NUL in a prompt),
            # and a body that was changed here counts as one that breaks the rules.
            unsaid = [positive_data_acceptance, negative_data_rejection]
            case.validate_response(answer, excluded_checks=unsaid)

        check()

    for result in description.get_all_operations():
        ask(result.ok())
    edits = statuses[URL]
    assert edits.total() >= 200
    assert set(edits) <= {200, 400, 404, 415}
    assert min(edits[200], edits[400]) > 0
    assert {"/v1/models", "/v1/models/{model}", "/healthz", "/readyz"} <= set(statuses)
