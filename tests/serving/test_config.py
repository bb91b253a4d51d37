from typing import Any

import pytest
from pydantic import ValidationError

from reasonray.serving.config import ServingConfig

MODELS: dict[str, Any] = {"a": {"editor": "/shared/editor"}}


def test_who_has_keys_or_says_that_none_are_needed_is_served() -> None:
    assert ServingConfig.model_validate({"models": MODELS, "keys": "/keys"}).deadline_s == 60
    assert ServingConfig.model_validate({"models": MODELS, "anonymous": True}).mark


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"models": MODELS}, "without a key file everybody"),
        ({"models": MODELS, "keys": "/keys", "anonymous": True}, "no meaning beside keys"),
        ({"models": {}, "anonymous": True}, "at least 1"),
        ({"models": {"a/b": MODELS["a"]}, "anonymous": True}, "pattern"),
        ({"models": {"a": {}}, "anonymous": True}, "editor"),
        ({"models": MODELS, "anonymous": True, "deadline": 5}, "Extra inputs"),
        ({"models": MODELS, "anonymous": True, "safety": "os.system"}, "pattern"),
        (
            {"models": {"a": {"editor": "/e", "min_replicas": 3}}, "anonymous": True},
            "min_replicas 3 is more than max_replicas 1",
        ),
    ],
)
def test_what_cannot_be_meant_does_not_start(arguments: Any, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        ServingConfig.model_validate(arguments)
