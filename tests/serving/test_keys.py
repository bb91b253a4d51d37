from pathlib import Path

import pytest

from reasonray.core.errors import UserError
from reasonray.serving.errors import ApiError
from reasonray.serving.keys import Doorkeeper, new_key, read_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def refusal(doorkeeper: Doorkeeper, authorization: str | None, *, counted: bool = True) -> ApiError:
    with pytest.raises(ApiError) as error:
        doorkeeper.admit(authorization, counted=counted)
    return error.value


def test_a_key_opens_and_is_not_in_the_file(file: Path) -> None:
    keys = {name: new_key(file, name) for name in ("anna", "ben.b@example-1")}
    assert file.stat().st_mode & 0o077 == 0
    assert list(read_keys(file)) == list(keys)
    doorkeeper = Doorkeeper(read_keys(file))
    for key in keys.values():
        assert len(key) > 40
        assert key not in file.read_text()
        for scheme in ("Bearer", "bearer", "BEARER"):
            doorkeeper.admit(f"{scheme} {key}", counted=True)


@pytest.mark.parametrize(
    "wrong",
    [None, "", "Bearer", "Bearer ", "Bearer x", "Basic {key}", "{key}", "Bearer {key}x",
     "Bearer {hash}", "Bearer \xff\xfe", "Bearer é", "Bearer {key} {key}"],
)  # fmt: skip
def test_nothing_else_opens(file: Path, wrong: str | None) -> None:
    key = new_key(file, "anna")
    keys = read_keys(file)
    authorization = wrong and wrong.replace("{key}", key).replace("{hash}", keys["anna"])
    error = refusal(Doorkeeper(keys), authorization)
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert error.headers == {"WWW-Authenticate": "Bearer"}
    assert key not in error.message


def test_without_keys_everybody_is_let_in() -> None:
    Doorkeeper(None).admit(None, counted=True)


def test_each_key_has_a_rate_of_its_own(file: Path) -> None:
    anna, ben = (f"Bearer {new_key(file, name)}" for name in ("anna", "ben"))
    now = [0.0]
    doorkeeper = Doorkeeper(read_keys(file), 6, lambda: now[0])
    for _ in range(6):
        doorkeeper.admit(anna, counted=True)
    error = refusal(doorkeeper, anna)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers == {"Retry-After": "10"}
    doorkeeper.admit(anna, counted=False)
    doorkeeper.admit(ben, counted=True)
    now[0] = 9.9
    assert refusal(doorkeeper, anna).headers == {"Retry-After": "1"}
    now[0] = 10.1
    doorkeeper.admit(anna, counted=True)
    refusal(doorkeeper, anna)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "has no key"),
        ("# nothing\n\n", "has no key"),
        ("anna rr-a-key-in-clear\n", ":1: expected a name"),
        (f"anna {'a' * 64}\nanna {'b' * 64}\n", ":2: expected a name of its own"),
        (f"{'a' * 64}\n", ":1: expected a name"),
    ],
)
def test_a_file_that_is_none_is_refused(file: Path, text: str, match: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=match):
        read_keys(file)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(UserError, match="no key file"):
        read_keys(file)


def test_a_name_is_given_once(file: Path) -> None:
    new_key(file, "anna")
    with pytest.raises(UserError, match="named anna already"):
        new_key(file, "anna")
    with pytest.raises(UserError, match="name has letters"):
        new_key(file, "two words")
