import io

import click
import pytest

from reasonray.cli.spending import approve
from reasonray.core.recipe import Recipe, load

ROWS = {"I": 200_000, "III": 5}
URL = "language_model.server.base_url="


class Terminal(io.StringIO):
    """Where a person types."""

    def isatty(self) -> bool:
        return True


def recipe(*settings: str) -> Recipe:
    return load("paper", list(settings))


def test_a_paid_run_is_told_and_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(click.Abort):
        approve(recipe(), ROWS, may_ask=True)
    text = capsys.readouterr().err
    assert "api.openai.com" in text
    assert "about 400,005 requests" in text
    assert "prompt_price" in text
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    approve(recipe(), ROWS, may_ask=True)


def test_a_run_to_so_many_samples_says_that_more_inputs_may_follow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    approve(recipe(), ROWS, may_ask=True)
    assert "told anew" not in capsys.readouterr().err
    approve(recipe("accepted=28058"), ROWS, may_ask=True)
    assert "told anew, until 28,058 samples are made" in capsys.readouterr().err


def test_scripts_are_not_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    approve(recipe(), ROWS, may_ask=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    prices = ["prompt_price=1", "completion_price=2"]
    approve(recipe(*(f"language_model.server.{p}" for p in prices)), ROWS, may_ask=True)
    assert ": $" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "[::1]:8", "10.0.0.7", "vllm"])
def test_a_server_of_ones_own_is_not_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    approve(recipe(f"{URL}http://{host}/v1"), ROWS, may_ask=True)
    price = [f"language_model.server.{kind}_price=1" for kind in ("prompt", "completion")]
    with pytest.raises(click.Abort):
        approve(recipe(f"{URL}http://{host}/v1", *price), ROWS, may_ask=True)


def test_models_in_the_actors_cost_nothing_by_the_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    approve(load("mini"), ROWS, may_ask=True)
    assert capsys.readouterr().err == ""
