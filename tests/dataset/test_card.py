from pathlib import Path

import pytest
import yaml
from toy_outputs import published

from reasonray.core.record import ACCEPTED_SCHEMA
from reasonray.dataset.card import write_card
from reasonray.dataset.manifest import complete_manifest


def test_the_card_describes_every_field(tmp_path: Path) -> None:
    published(tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert [config["config_name"] for config in head["configs"]] == ["accepted", "rejected"]
    for name in ACCEPTED_SCHEMA.names:
        assert f"- `{name}`: " in card
    assert "CC0-1.0: 16 samples" in card
    assert "Warning" not in card


def test_the_card_has_what_the_user_was_warned_of(tmp_path: Path) -> None:
    published(tmp_path / "out")
    manifest = complete_manifest(tmp_path / "out")
    warned = manifest.model_copy(update={"warnings": ["2 files are passed over", "one more"]})
    write_card(tmp_path / "out", warned, {})
    card = (tmp_path / "out/README.md").read_text()
    assert "\n> Warning: 2 files are passed over.\n\n> Warning: one more.\n" in card


@pytest.mark.filterwarnings("default")  # of datasets and what it imports
def test_datasets_opens_the_output_and_shows_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    published(tmp_path / "out")
    cache = str(tmp_path / "cache")
    samples = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    assert len(samples) == 16
    assert isinstance(samples.features["edited_image"], datasets.Image)
    assert samples[0]["input_image"].size == (24, 24)
    rejections = datasets.load_dataset(
        str(tmp_path / "out"), "rejected", split="train", cache_dir=cache
    )
    assert rejections["reason"] == ["target_missing"] * 2
