import json
import re
from pathlib import Path

import fsspec
import pytest

from reasonray.core.errors import UserError
from reasonray.core.sections import SourceConfig
from reasonray.sources.instructpix2pix import read
from reasonray.sources.item import Item


def prompt(folder: Path, content: object, seeds: list[str]) -> None:
    folder.mkdir(parents=True)
    (folder / "prompt.json").write_text(json.dumps(content))
    for seed in seeds:
        (folder / f"{seed}_0.jpg").write_bytes(b"before")
        (folder / f"{seed}_1.jpg").write_bytes(b"after")


def items(folder: Path | str) -> list[Item]:
    return list(read(SourceConfig(format="instructpix2pix", path=str(folder)), []))


COMPLETE = {"caption": "a bee", "edit": "make it honey", "output": "some honey"}


def test_flat_and_sharded_folders_give_the_same_ids(tmp_path: Path) -> None:
    for root in (tmp_path / "flat", tmp_path / "sharded/shard-00"):
        prompt(root / "0000000", COMPLETE, ["12", "7"])
        prompt(root / "0000001", COMPLETE, ["3"])
    flat = items(tmp_path / "flat")
    assert [item.source_id for item in flat] == ["0000000/12", "0000000/7", "0000001/3"]
    assert [item.source_id for item in items(tmp_path / "sharded")] == [i.source_id for i in flat]
    assert Path(flat[0].input_uri).read_bytes() == b"before"
    assert flat[0].edited_uri is not None
    assert Path(flat[0].edited_uri).read_bytes() == b"after"
    assert flat[0].input_caption == "a bee"
    assert flat[0].edited_caption == "some honey"
    assert flat[0].direct_instruction == "make it honey"


def test_a_caption_may_be_called_input(tmp_path: Path) -> None:
    prompt(tmp_path / "0", {"input": "a bee", "edit": "x", "output": "y"}, ["1"])
    assert items(tmp_path)[0].input_caption == "a bee"


def test_a_prompt_with_an_edit_alone_has_no_captions(tmp_path: Path) -> None:
    prompt(tmp_path / "0", {"edit": "make it honey", "output": "  "}, ["1"])
    (item,) = items(tmp_path)
    assert (item.input_caption, item.edited_caption) == (None, None)
    assert item.direct_instruction == "make it honey"


def test_a_prompt_without_images_is_one_item_that_names_them(tmp_path: Path) -> None:
    prompt(tmp_path / "0", COMPLETE, [])
    (item,) = items(tmp_path)
    assert item.source_id == "0/*"
    assert item.input_uri.endswith("0/*_0.jpg")


def test_seeds_that_only_the_metadata_knows_are_items(tmp_path: Path) -> None:
    prompt(tmp_path / "0", COMPLETE, ["5"])
    (tmp_path / "0/metadata.jsonl").write_text('{"seed": 5}\n\n{"seed": 6, "cfg_scale": 3}\n')
    assert [item.source_id for item in items(tmp_path)] == ["0/5", "0/6"]


def test_seeds_json_decides_and_what_it_lists_beyond_the_copy_comes_last(tmp_path: Path) -> None:
    prompt(tmp_path / "shard-00/a", COMPLETE, ["1", "2"])
    prompt(tmp_path / "shard-00/b", COMPLETE, ["9"])
    (tmp_path / "seeds.json").write_text('[["a", ["2", 1]], ["gone", ["4"]]]')
    assert [item.source_id for item in items(tmp_path)] == ["a/2", "a/1", "b/9", "gone/4"]


def test_more_prompts_than_are_looked_into_at_once_keep_their_order(tmp_path: Path) -> None:
    for number in range(150):
        prompt(tmp_path / f"{number:04d}", COMPLETE, ["1"])
    assert [item.source_id for item in items(tmp_path)] == [f"{n:04d}/1" for n in range(150)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prompt.json", '{"edit": \n "x', "prompt.json: line 2, column 2"),
        ("prompt.json", "", "prompt.json: line 1, column 1: not JSON .it is empty"),
        ("prompt.json", "[]", "expected an object with edit"),
        (
            "prompt.json",
            '{"instruction": "x"}',
            "expected .* edit, output, input .it has instruction",
        ),
        ("prompt.json", '{"edit": ["x", "y"]}', "edit is no text: .'x', 'y'."),
        ("prompt.json", b'{"edit": "\xff"}', "byte 10: not UTF-8"),
        ("prompt.json", "[" * 100_000, "prompt.json: not JSON that can be read"),
        ("prompt.json", None, "prompt.json: there is no such file"),
        ("metadata.jsonl", '{"seed": 1}\n{"seed"}', "metadata.jsonl: line 2, column"),
        ("metadata.jsonl", '{"sed": 1}', "line 1: expected an object with seed"),
    ],
)
def test_a_damaged_prompt_costs_its_own_rows(
    tmp_path: Path, name: str, text: str | bytes | None, message: str
) -> None:
    prompt(tmp_path / "0", COMPLETE, ["1", "2"])
    prompt(tmp_path / "1", COMPLETE, ["3"])
    if text is None:
        (tmp_path / "0" / name).unlink()
    else:
        (tmp_path / "0" / name).write_bytes(text.encode() if isinstance(text, str) else text)
    *damaged, good = items(tmp_path)
    assert [item.source_id for item in damaged] == ["0/1", "0/2"]
    for item in damaged:
        assert item.reason == "bad_annotation"
        assert re.search(message, item.detail or ""), item.detail
    assert good.reason is None
    assert good.direct_instruction == "make it honey"


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": 1}', '[["a", "12"]]', '[["a", null]]', '["a", "b"]', '[["a", ["1"], 2]]', "3"],
)
def test_a_malformed_list_of_seeds_is_the_user_s_mistake(tmp_path: Path, text: str) -> None:
    prompt(tmp_path / "a", COMPLETE, ["1"])
    (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(UserError, match=r"seeds\.json: (expected|line 1)"):
        items(tmp_path)


def test_a_prompt_or_seed_that_is_listed_twice_is_read_once(tmp_path: Path) -> None:
    prompt(tmp_path / "shard-00/a", COMPLETE, ["1", "2"])
    (tmp_path / "seeds.json").write_text('[["shard-00\\\\a", ["1", 1]], ["a", ["2"]]]')
    assert [item.source_id for item in items(tmp_path)] == ["a/1", "a/2"]


def test_images_may_be_of_other_formats(tmp_path: Path) -> None:
    prompt(tmp_path / "0", COMPLETE, [])
    for name in ("1_0.png", "1_1.webp", "2_0.JPG", "2_1.jpeg", "2_1.png", "3_0.jpg", "x_0.txt"):
        (tmp_path / "0" / name).write_bytes(name.encode())
    listed = items(tmp_path)
    assert [item.source_id for item in listed] == ["0/1", "0/2", "0/3"]
    names = [(Path(item.input_uri).name, Path(item.edited_uri or "").name) for item in listed]
    assert names == [("1_0.png", "1_1.webp"), ("2_0.JPG", "2_1.jpeg"), ("3_0.jpg", "3_1.jpg")]


def test_folders_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    prompt(tmp_path / "0", COMPLETE, ["1"])
    for folder in ("thumbs", "more"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(b"")
    (tmp_path / "shard-01.zip").write_bytes(b"")
    notices: list[str] = []
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path))
    assert len(list(read(source, notices))) == 1
    archives, notice = notices
    assert "1 files are passed over that are archives" in archives
    assert "the first: shard-01.zip" in archives
    assert "2 folders with images and without prompt.json are passed over" in notice
    assert "the first: more" in notice


def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected InstructPix2Pix.*found an empty folder"):
        items(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(UserError, match=r"found cats/, readme.txt"):
        items(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        items(tmp_path / "gone")


def test_it_reads_from_any_fsspec_filesystem(tmp_path: Path) -> None:
    prompt(tmp_path / "shard-00/0000000", COMPLETE, ["1"])
    fsspec.filesystem("memory").put(str(tmp_path), "/ip2p/", recursive=True)
    (item,) = items(f"memory://ip2p/{tmp_path.name}")
    assert item.source_id == "0000000/1"
    assert item.input_uri.startswith("memory://")
    with fsspec.open(item.input_uri) as opened:
        assert opened.read() == b"before"
