import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reasonray.core.errors import UserError
from reasonray.core.sections import SourceConfig
from reasonray.sources.item import Item
from reasonray.sources.v3det import read


def items(folder: Path | str, split: str = "train") -> list[Item]:
    return list(read(SourceConfig(format="v3det", path=str(folder), split=split), []))


def annotate(folder: Path, name: str, **content: Any) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / name).write_text(json.dumps(content))


IMAGES = [
    {"id": 3, "file_name": "images/n1/a.jpg", "license": 1},
    {"id": 1, "file_name": "images/n2/b.jpg"},
]


def test_images_are_read_in_the_file_s_order_with_their_licences(tmp_path: Path) -> None:
    # The licences may stand behind the images, and the huge list before both.
    annotate(
        tmp_path,
        "v3det_2023_v1_train.json",
        annotations=[{"image_id": 3, "bbox": [1, 2, 3, 4], "note": '}]{[\\"'}] * 50,
        images=IMAGES,
        licenses=[{"id": 1, "name": "CC BY 2.0", "url": "u"}],
    )
    first, second = items(tmp_path)
    assert (first.source_id, second.source_id) == ("3", "1")
    assert first.input_uri == str(tmp_path / "images/n1/a.jpg")
    assert (first.license, second.license) == ("CC BY 2.0", None)
    assert first.edited_uri is None


def test_each_split_has_its_file_and_the_test_split_is_image_information(tmp_path: Path) -> None:
    annotate(tmp_path, "v3det_2023_v1_train.json", images=IMAGES)
    annotate(tmp_path, "v3det_2023_v1_val.json", images=IMAGES[:1])
    annotate(
        tmp_path,
        "v3det_2023_v1_test_image_info.json",
        images=[{"id": 1, "file_name": "test/c.jpg"}],
    )
    assert [len(items(tmp_path, split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert items(tmp_path, "test")[0].input_uri == str(tmp_path / "test/c.jpg")


def test_it_reads_from_any_fsspec_filesystem() -> None:
    files = fsspec.filesystem("memory")
    content = json.dumps({"images": IMAGES}).encode()
    files.pipe("/v3det/annotations/v3det_2023_v1_train.json", content)
    assert items("memory://v3det")[0].input_uri == "memory://v3det/images/n1/a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [{"id": 1,, "file_name": "a"}]}', "character 12: not JSON"),
        ('{"images": [{"id": 1}]}', r"images\[0\]: expected an object with file_name"),
        ('{"images": [{"file_name": "a"}', "not JSON"),
        ("[]", "expected '{', found '\\['"),
        ('{"info": {}}', "no images in it"),
        ('{"images": [{"file_name": "../../etc/passwd"}]}', "leads out of the folder"),
    ],
)
def test_a_malformed_annotation_file_is_named_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    annotate(tmp_path, "v3det_2023_v1_train.json")
    (tmp_path / "annotations/v3det_2023_v1_train.json").write_text(text)
    with pytest.raises(UserError, match=message):
        items(tmp_path)


def test_a_wrong_folder_or_split_says_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"expected one annotations/.*_train.json.*found photos/"):
        items(tmp_path)
    annotate(tmp_path, "v3det_2023_v1_val.json", images=IMAGES)
    with pytest.raises(UserError, match=r"found annotations/v3det_2023_v1_val.json"):
        items(tmp_path)
    with pytest.raises(UserError, match="split tests: one of train, val, test"):
        items(tmp_path, "tests")


def noted(folder: Path, images: list[dict[str, Any]], **more: Any) -> tuple[list[Item], list[str]]:
    annotate(folder, "v3det_2023_v1_train.json", images=images, **more)
    notices: list[str] = []
    return list(read(SourceConfig(format="v3det", path=str(folder)), notices)), notices


def test_a_url_is_a_rejected_row_that_says_so(tmp_path: Path) -> None:
    urls = [{"id": 1, "file_name": "http://host/a.jpg"}, {"id": 2, "file_name": "s3://b/c.jpg"}]
    (first, second, good), [notice] = noted(tmp_path, [*urls, {"id": 3, "file_name": "a.jpg"}])
    assert (first.reason, second.reason, good.reason) == ("missing_image", "missing_image", None)
    assert "image 1: http://host/a.jpg is a URL" in (first.detail or "")
    assert "2 file names are URLs, which are not followed" in notice


LICENSES: list[Any] = [
    {"id": 1, "name": "CC BY"},
    {"id": "2", "url": "u"},
    {"id": 0, "name": "CC0"},
]
LICENSES += [{"id": 0, "name": "CC0"}, {"id": [3], "name": "x"}, {"id": 4, "name": 5}]
LICENSES += ["CC", None, {"name": "no id"}]


@pytest.mark.parametrize(
    ("key", "license", "is_noted"),
    [
        (1, "CC BY", False),
        ("1", "CC BY", False),
        (2, "u", False),
        (0, "CC0", False),
        ("CC BY-SA", "CC BY-SA", False),
        (None, None, False),
        ("", None, False),
        (7, None, True),
        (4, None, True),
        ([1], None, True),
        ({"name": "CC0"}, None, True),
        (1.5, None, True),
        (True, None, True),
    ],
)
def test_a_licence_is_an_id_a_text_or_said_to_be_none(
    tmp_path: Path, key: object, license: str | None, is_noted: bool
) -> None:
    image = {"id": 9, "file_name": "a.jpg", "license": key}
    [item], notices = noted(tmp_path, [image], licenses=LICENSES)
    assert item.license == license
    assert ["1 images have a license" in notice for notice in notices] == [True] * is_noted


def test_where_there_is_no_id_the_file_name_is_it(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [
        {"id": key, "file_name": f"{n}.jpg"} for n, key in enumerate((None, "", 0, "x"))
    ]
    listed, _ = noted(tmp_path, [*images, {"file_name": "b.jpg"}], licenses=None)
    assert [item.source_id for item in listed] == ["0.jpg", "1.jpg", "0", "x", "b.jpg"]


@pytest.mark.parametrize(
    ("file", "listed"),
    [
        ("images/n1/a.jpg", "images\\n1\\a.jpg"),
        ("images\\n1\\a.jpg", "images\\n1\\a.jpg"),  # unpacked from an archive of Windows
        ("images\\n1\\a.jpg", "images/n1/a.jpg"),
        ("images/n1/a.JPG", "images/n1/a.jpg"),
        ("images/n1/caf\u00e9.jpg", "images/n1/cafe\u0301.jpg"),
        ("images/n1/gone.jpg", "images/n1/gone.jpg"),
    ],
)
@pytest.mark.parametrize("is_near", [True, False])
def test_names_are_understood_as_others_write_them(
    tmp_path: Path, file: str, listed: str, is_near: bool
) -> None:
    annotate(tmp_path, "v3det_2023_v1_train.json", images=[{"id": 1, "file_name": listed}])
    if "gone" not in file:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    address = str(tmp_path)
    if not is_near:
        if file.endswith(".JPG") or (file != listed and "\\" in file):
            return  # not looked for far away
        address = f"memory:/{tmp_path}"
        fsspec.filesystem("memory").put(f"{tmp_path}/", f"{tmp_path}/", recursive=True)
    [item] = items(address)
    assert item.input_uri == f"{address}/{file}"


CATEGORIES = [{"id": 1, "name": "Lhasa_apso"}, {"id": 2, "name": "sofa"}, {"id": 3}]


def test_the_annotated_categories_come_along_where_the_recipe_asks(tmp_path: Path) -> None:
    pairs = [(3, 2), (1, 2), (3, 1), (3, 2), (3, 9), (9, 1)]
    annotate(
        tmp_path,
        "v3det_2023_v1_train.json",
        images=[*IMAGES, {"id": 7, "file_name": "images/n2/c.jpg"}],
        # V3Det's stand behind the images, and the names behind all.
        annotations=[{"image_id": i, "category_id": k, "bbox": [0, 0, 1, 1]} for i, k in pairs],
        categories=CATEGORIES,
        licenses=[{"id": 1, "name": "CC BY 2.0"}],
    )
    plain = SourceConfig(format="v3det", path=str(tmp_path))
    asked = plain.model_copy(update={"categories": True})
    notices: list[str] = []
    assert [each.categories for each in read(plain, notices)] == [(), (), ()]
    known = [each.categories for each in read(asked, notices)]
    assert known == [("sofa", "Lhasa_apso"), ("sofa",), ()]
    assert notices == []


def test_categories_that_are_asked_for_and_not_there_are_said(tmp_path: Path) -> None:
    images = IMAGES[1:]
    annotate(tmp_path, "v3det_2023_v1_test_image_info.json", images=images, categories=CATEGORIES)
    source = SourceConfig(format="v3det", path=str(tmp_path), split="test", categories=True)
    notices: list[str] = []
    assert [each.categories for each in read(source, notices)] == [()]
    [notice] = notices
    assert "no image has annotated categories" in notice
