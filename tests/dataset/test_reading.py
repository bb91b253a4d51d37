from pathlib import Path

import pytest
from toy_outputs import finished, published

import reasonray
from reasonray.core.errors import UserError


def test_reading_gives_records_with_pictures(tmp_path: Path) -> None:
    published(tmp_path / "out")
    records = list(reasonray.read(tmp_path / "out"))
    assert len(records) == 16
    assert records[0]["input_image"].size == (24, 24)
    assert records[-1]["edited_image"].mode == "RGB"
    [first, _] = reasonray.read(tmp_path / "out", "rejected")
    assert first["reason"] == "target_missing"


def test_reading_what_is_not_complete_is_refused(tmp_path: Path) -> None:
    finished(tmp_path / "out")
    with pytest.raises(UserError, match="no complete output"):
        reasonray.read(tmp_path / "out")
