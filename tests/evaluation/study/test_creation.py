import json
from pathlib import Path

import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from studies import EDITORS, Inputs, editor_of, lay_out, load, picture, write_inputs
from toy_editors import Inverting, benchmark, pair

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.ours import Ours
from reasonray.evaluation.editing import Editing
from reasonray.evaluation.editors import ByItem, Edits
from reasonray.evaluation.study.store import Store


def opened(store: Store, file: str) -> PIL.Image.Image:
    return load(store.pictures / file)


def all_files(store: Store) -> list[str]:
    return [
        file
        for worker in store.workers()
        for task in store.tasks(worker.number)
        for file in (task.before, *task.candidates)
    ]


def test_each_worker_gets_a_share_and_each_picture_is_the_editors(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=10)
    lines = lay_out(tmp_path / "study", inputs, num_workers=5)
    assert lines == [
        "5 workers, 4 questions each, the best of 3 pictures",
        "direct: 10 items, 2 for each worker, each item seen by 1 of them",
        "reasoning: 10 items, 2 for each worker, each item seen by 1 of them",
    ]
    store = Store(tmp_path / "study")
    assert [worker.num_tasks for worker in store.workers()] == [4] * 5
    rows = [json.loads(line) for line in inputs.items.read_text().splitlines()]
    items = {row["instruction"]: row for row in rows}
    seen = []
    for worker in store.workers():
        for task in store.tasks(worker.number):
            item = items[task.instruction]
            seen.append(item["id"])
            before = load(tmp_path / item["input_image"])
            assert opened(store, task.before).tobytes() == before.tobytes()
            assert {editor_of(store, file) for file in task.candidates} == set(EDITORS)
            for file in task.candidates:
                folder = Path(inputs.editors[editor_of(store, file)])
                original = load(folder / f"{item['id'].replace('/', '__')}.png")
                assert opened(store, file).tobytes() == original.tobytes()
    assert sorted(seen) == sorted(item["id"] for item in items.values())


def test_count_and_quota_decide_how_many_see_an_item(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=9)
    lines = lay_out(tmp_path / "study", inputs, count=4, num_workers=3, quota=3)
    assert lines[1:] == [
        "direct: 4 items, 3 for each worker, each item seen by 2.25 of them",
        "reasoning: 4 items, 3 for each worker, each item seen by 2.25 of them",
    ]
    num_asked = Store(tmp_path / "study").num_asked()
    assert num_asked == {"direct": (4, 9), "reasoning": (4, 9)}


def test_the_seed_decides_all_but_the_links_and_names(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=6)

    def shown(name: str, seed: int) -> tuple[object, set[str]]:
        lay_out(tmp_path / name, inputs, count=4, seed=seed)
        store = Store(tmp_path / name)
        content = [
            [(task.instruction, [editor_of(store, file) for file in task.candidates])
             for task in store.tasks(worker.number)]
            for worker in store.workers()
        ]  # fmt: skip
        return content, {worker.token for worker in store.workers()} | set(all_files(store))

    (first, secrets), (again, others), (different, _) = (
        shown("a", 1), shown("b", 1), shown("c", 2),
    )  # fmt: skip
    assert first == again
    assert first != different
    assert not secrets & others
    assert all(len(each) >= 24 for each in secrets)


def test_nothing_of_a_picture_tells_its_editor(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=3)
    note = PngInfo()
    note.add_text("Software", "ours 1.0")
    exif = PIL.Image.Exif()
    exif[0x0131] = "ours 1.0"
    for path in Path(inputs.editors["ours"]).iterdir():
        load(path).save(path, pnginfo=note, exif=exif)
    for path in Path(inputs.editors["baseline"]).iterdir():
        load(path).resize((90, 60)).save(path.with_suffix(".jpg"), exif=exif, quality=90)
        path.unlink()
    lines = lay_out(tmp_path / "study", inputs)
    assert lines[-1] == (
        "baseline: 6 pictures had not their input's size and were resized to it, "
        "0 of them from other proportions"
    )
    store = Store(tmp_path / "study")
    for file in all_files(store):
        shown = opened(store, file)
        assert (shown.format, shown.mode, shown.size) == ("WEBP", "RGB", (48, 32))
        assert not shown.getexif()
        assert set(shown.info) <= {"loop", "background", "timestamp", "duration"}
        assert b"ours" not in (store.pictures / file).read_bytes()
    names = sorted(path.name for path in store.pictures.iterdir())
    assert len(names) == 6 * 4
    assert all(len(name) == len(names[0]) for name in names)


def test_turned_large_and_distorted_pictures_are_shown_upright_at_one_size(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=1, kinds=["direct"])
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    large = picture(5, (2000, 1000))
    large.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / "inputs/0.png", exif=turned)
    square = picture(6, (512, 512))
    square.save(tmp_path / "ours/direct__0.png")
    lines = lay_out(tmp_path / "study", inputs, num_workers=1)
    assert "ours: 1 pictures had not their input's size and were resized to it, 1 of" in lines[-3]
    store = Store(tmp_path / "study")
    [task] = store.tasks(1)
    assert {opened(store, file).size for file in (task.before, *task.candidates)} == {(1024, 512)}
    upright = large.resize((1024, 512), PIL.Image.Resampling.LANCZOS)
    assert opened(store, task.before).tobytes() == upright.tobytes()


def test_an_item_that_one_editor_lacks_is_left_out_for_all_and_said(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=5)
    (tmp_path / "ours/direct__1.png").unlink()
    (tmp_path / "rival/direct__1.png").unlink()
    (tmp_path / "rival/reasoning__4.png").unlink()
    (tmp_path / "baseline/direct__2.png").write_bytes(b"no picture")
    (tmp_path / "inputs/8.png").unlink()  # reasoning/3
    lines = lay_out(tmp_path / "study", inputs, num_workers=1)
    assert lines[1].startswith("direct: 3 items")
    assert lines[2].startswith("reasoning: 3 items")
    assert lines[3:5] == [
        "left out: 1 of 10 items, for which ours has no picture (the first: direct/1)",
        "left out: 2 of 10 items, for which rival has no picture (the first: direct/1)",
    ]
    assert lines[5].startswith("left out: 2 items with a picture that cannot be read (the first: ")
    store = Store(tmp_path / "study")
    notes = store.settings()["notes"]
    assert notes["missing"]["rival"] == ["direct/1", "reasoning/4"]
    assert [each.partition(":")[0] for each in notes["broken"]] == ["direct/2", "reasoning/3"]
    instructions = {task.instruction for task in store.tasks(1)}
    for item in ("direct: show what number 1", "direct: show what number 2"):
        assert not any(each.startswith(item) for each in instructions)


def test_a_broken_item_is_made_up_for_by_another(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=5, kinds=["direct"])
    for number in range(2):
        (tmp_path / f"ours/direct__{number}.png").write_bytes(b"\x89PNG")
    assert lay_out(tmp_path / "study", inputs, count=3)[1].startswith("direct: 3 items")


def test_pictures_that_are_alike_are_counted(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=2)
    same = (tmp_path / "ours/direct__0.png").read_bytes()
    (tmp_path / "rival/direct__0.png").write_bytes(same)
    lines = lay_out(tmp_path / "study", inputs)
    assert lines[-1] == "1 items have the very same picture of two editors"


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, num_items=3)
    one = Inputs(inputs.items, {"ours": inputs.editors["ours"]})
    lost = tmp_path / "lost"
    lost.mkdir()
    picture(1).save(lost / "another.png")
    none = Inputs(inputs.items, {**inputs.editors, "lost": str(lost)})
    with pytest.raises(UserError, match="expected two or more"):
        lay_out(tmp_path / "study", one)
    with pytest.raises(UserError, match=r"--editor lost: no item has .* such as direct__0.png"):
        lay_out(tmp_path / "study", none)
    with pytest.raises(UserError, match="--quota 1: 2 workers would see 2 of 3 direct items"):
        lay_out(tmp_path / "study", inputs, quota=1)
    for path in (tmp_path / "ours").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="no item's pictures can be read"):
        lay_out(tmp_path / "study", inputs)
    assert not [path for path in tmp_path.iterdir() if "study" in path.name]
    with pytest.raises(UserError, match="is there already; give a new or empty folder"):
        lay_out(tmp_path / "ours", inputs)


def test_a_benchmark_and_its_evaluation_make_a_study(tmp_path: Path) -> None:
    pairs = [pair(number) for number in range(6)]
    pairs[0]["instructions"].append({"kind": "direct-2", "text": "Make it a dog"})
    own = Ours(str(benchmark(tmp_path / "benchmark", pairs)))
    items = own.items()
    unedited = ByItem(lambda _, item: item.before())
    editors: dict[str, Edits | ByItem] = {"ours": Inverting(), "none": unedited}
    for name, editor in editors.items():
        for start in (0, 8):
            path = tmp_path / f"edits/ours/{name}/{start:06}.parquet"
            edit = Editing(editor, name, session=1, seed=0, timeout_s=20)
            edit(own, items[start : start + 8], path)
    folders = {name: str(tmp_path / f"edits/ours/{name}") for name in editors}
    lines = lay_out(tmp_path / "study", Inputs(tmp_path / "benchmark", folders))
    assert lines == [
        "2 workers, 6 questions each, the best of 2 pictures",
        "direct: 6 items, 3 for each worker, each item seen by 1 of them",
        "reasoning: 6 items, 3 for each worker, each item seen by 1 of them",
    ]
    store = Store(tmp_path / "study")
    truths = {item.instruction: item.references[0].open() for item in items}
    for worker in (1, 2):
        for task in store.tasks(worker):
            [file] = [file for file in task.candidates if editor_of(store, file) == "ours"]
            assert opened(store, file).tobytes() == truths[task.instruction].tobytes()
