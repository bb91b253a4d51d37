import io

import pytest
from rich.console import Console

from reasonray.core.console import counted, duration


def test_items_are_handed_on_and_counted_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    assert list(counted("abc", 3, "letters", console)) == ["a", "b", "c"]
    assert "letters" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_elsewhere_the_last_item_counted_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted("abc", 3, "letters", Console(file=io.StringIO()))) == ["a", "b", "c"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("3/3 letters, ")
    assert line.endswith(" letters/s, 0 s left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5999, "100 min"),
        (6000, "1.7 h"),
        (48 * 3600, "2.0 days"),
    ],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
