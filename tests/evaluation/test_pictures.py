import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_editors import Inverting, benchmark, pair

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.items import Picture
from reasonray.evaluation.pictures import FinishedPictures, check_stems, file_stem


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"picture")


@pytest.mark.parametrize(
    ("item_id", "file"),
    [
        ("17", "17.png"),
        ("cat/17", "cat__17.png"),
        ("cat/17", "cat/17.png"),
        ("a.b", "a.b.jpg"),
        ("a.png", "a.png.png"),
        ("II/mini/a b;'\"&?#%/0", "II__mini__a b;'\"&?#%__0.webp"),
        ("Löwe", unicodedata.normalize("NFD", "Löwe") + ".JPEG"),
        ("..", "...png"),
        ("狮子/1", "狮子__1.png"),
    ],
)
def test_a_picture_is_known_by_its_items_id(item_id: str, file: str, tmp_path: Path) -> None:
    touch(tmp_path, file, "another.png", "notes.txt", "17.txt", ".DS_Store")
    pictures = FinishedPictures(tmp_path, "--editor a")
    assert pictures.find(item_id) == Picture(str(tmp_path / file))


def test_what_is_no_picture_of_an_item_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.txt", "._3.png")
    pictures = FinishedPictures(tmp_path, "--editor a")
    for item_id in ("2", "3", "1.png", "x" * 5000, "nul\0"):
        assert pictures.find(item_id) is None


def test_two_pictures_of_one_item_are_not_chosen_from(tmp_path: Path) -> None:
    touch(tmp_path, "cat__1.png", "cat/1.jpg")
    pictures = FinishedPictures(tmp_path, "--editor a")
    with pytest.raises(UserError, match=r"cat/1.jpg and .*cat__1.png are both of item cat/1"):
        pictures.find("cat/1")


def test_an_evaluations_edits_are_finished_pictures(tmp_path: Path) -> None:
    hard = pair(2, instructions=[{"kind": "direct", "text": "fail"}])
    own = Ours(str(benchmark(tmp_path / "b", [pair(1), hard])))
    items = own.items()
    path = tmp_path / "edits/000000.parquet"
    Editing(Inverting(), "toy", session=1, seed=0, timeout_s=20)(own, items, path)
    pq.write_table(pa.table({"id": ["a"], "score": [1.0]}), tmp_path / "edits/scores.parquet")
    (tmp_path / "edits/000001.rows").mkdir()
    (tmp_path / "edits/000001.rows/a.parquet").write_bytes(path.read_bytes())
    pictures = FinishedPictures(tmp_path / "edits", "--editor a")
    for item in items[:2]:
        picture, truth = pictures.find(item.id), item.references[0].open()
        assert picture is not None
        assert picture.open().tobytes() == truth.tobytes()
    assert items[2].instruction == "fail"
    assert pictures.find(items[2].id) is None
    (tmp_path / "edits/000001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"000001.parquet: .*cannot be read as Parquet"):
        FinishedPictures(tmp_path / "edits", "--editor a")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_pictures_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "empty/readme.txt")
    with pytest.raises(UserError, match=rf"--editor a .*{name}: no picture is there"):
        FinishedPictures(tmp_path / name, "--editor a")


def test_ids_that_share_a_name_are_said() -> None:
    check_stems(["a/b", "a_b", "ab"])
    assert file_stem("a/b") == file_stem("a__b")
    with pytest.raises(UserError, match=r"items 'a/b' and 'a__b': both have the picture a__b.png"):
        check_stems(["a/b", "c", "a__b"])
    with pytest.raises(UserError, match="items 'a' and 'a'"):
        check_stems(["a", "a"])


def test_a_picture_may_be_where_the_benchmark_s_own_scripts_look(tmp_path: Path) -> None:
    touch(tmp_path, "images/causal/causal_1.jpeg", "causal_2.png", "30/30_1.png")
    pictures = FinishedPictures(tmp_path, "editor a")
    first = pictures.find("causal_1", "images/causal/causal_1.png")
    assert first == Picture(str(tmp_path / "images/causal/causal_1.jpeg"))
    second = pictures.find("causal_2", "images/causal/causal_2.png")
    assert second == Picture(str(tmp_path / "causal_2.png"))
    assert pictures.find("30-1", "30/30_1.png") == Picture(str(tmp_path / "30/30_1.png"))
    touch(tmp_path, "causal_1.png")
    with pytest.raises(UserError, match=r"are both of item causal_1; leave one"):
        FinishedPictures(tmp_path, "editor a").find("causal_1", "images/causal/causal_1.png")
