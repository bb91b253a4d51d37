from pathlib import Path

import PIL.Image
import pytest
from public_benchmarks import encoded, parquet

from reasonray.core.errors import RowError
from reasonray.evaluation.items import Item, Picture


def test_a_picture_is_opened_upright_and_rgb(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    PIL.Image.new("L", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    opened = Picture(str(tmp_path / "a.jpg")).open()
    assert (opened.mode, opened.size) == ("RGB", (4, 8))


def test_a_picture_may_lie_in_a_parquet_file(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", [{"image": "red"}, {"image": "green"}, {"image": "blue"}])
    pixel = Picture(f"{tmp_path / 'a.parquet'}#1/0/image").open().getpixel((0, 0))
    assert pixel == (0, 0, 255)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "missing_image"), (b"text", "unreadable_image"), (encoded("red")[:60], "truncated")],
)
def test_what_cannot_be_opened_is_the_rows_error_and_names_the_file(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "a.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RowError, match=str(file)) as caught:
        Picture(str(file)).open()
    assert caught.value.reason.startswith(reason)


def test_rules_go_before_the_instruction_on_a_line_of_their_own() -> None:
    item = Item("1", "", "en", (), "Draw the way.", rules="Walls are closed.")
    assert item.full_instruction == "Walls are closed.\nDraw the way."
    assert Item("1", "", "en", (), "Draw.").full_instruction == "Draw."
