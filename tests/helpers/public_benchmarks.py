"""Small copies of the public benchmarks' layouts, made by hand: nothing in them is theirs.

Each function fills a folder as the benchmark's own download would, with a few items whose pictures
are of one colour. Lists can be handed in changed, for what may be wrong with them.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

SIZE = (24, 16)

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(colour: str, size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, colour)


def encoded(colour: str, size: tuple[int, int] = SIZE) -> bytes:
    buffer = io.BytesIO()
    picture(colour, size).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: object) -> None:
    """A picture of a colour (a text), or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_bytes(encoded(content))
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


RISE_ROWS: list[Row] = [
    {
        "index": "temporal_reasoning_1",
        "category": "temporal_reasoning",
        "subtask": "Ripening",
        "instruction": "Show it a month on.",
        "image": "temporal_reasoning_images/1.png",
        "reference": "A withered leaf.",
    },
    {
        "index": "causal_reasoning_1",
        "category": "causal_reasoning",
        "subtask": "Breaking",
        "instruction": "Let it fall.",
        "image": "causal_reasoning_images/1.png",
        "reference": "Shards on the floor.",
        "reasoning_img": True,
        "consistency_free": True,
    },
    {
        "index": "spatial_reasoning_1",
        "category": "spatial_reasoning",
        "subtask": "Stacking",
        "instruction": "Build the tower.",
        "image": "spatial_reasoning_images/1.png",
        "reference_img": "spatial_reasoning_images/1_ans.png",
    },
    {
        "index": "logical_reasoning_1",
        "category": "logical_reasoning",
        "subtask": "Sums",
        "instruction": "Write the sum.",
        "image": "logical_reasoning_images/1.png",
        "reference_txt": "7",
    },
    {
        "index": "logical_reasoning_2",
        "category": "logical_reasoning",
        "subtask": "Rows",
        "instruction": "Draw the next shape.",
        "image": "logical_reasoning_images/2.png",
        "reference_img": "logical_reasoning_images/2_ans.png",
    },
    {
        "index": "logical_reasoning_3",
        "category": "logical_reasoning",
        "subtask": "Rows",
        "instruction": "Draw what is missing.",
        "image": "logical_reasoning_images/3.png",
        "reference_img": "logical_reasoning_images/3_ans.png",
        "reasoning_wo_ins": True,
    },
]


def risebench(folder: Path, rows: list[Row] = RISE_ROWS) -> None:
    write(folder / "datav2_total_w_subtask.json", rows)
    for row in rows:
        write(folder / "data" / row["image"], "red")
        if row.get("reference_img"):
            write(folder / "data" / row["reference_img"], "blue")


KRIS_ROWS: dict[str, dict[str, Row]] = {
    "color_change": {"1": {"ori_img": "1.png", "ins_en": "Paint the cup green."}},
    "count_change": {"1": {"ori_img": "1.png", "ins_en": "Add two cups."}},
    "anomaly_correction": {
        "1": {"ori_img": "1.png", "ins_en": "Put it right.", "explain_en": "A clock has one face."}
    },
    "viewpoint_change": {
        "1": {"ori_img": "1.png", "gt_img": "1_gt.png", "ins_en": "See it from above."}
    },
    "temporal_prediction": {
        "1": {"ori_img": ["1-1.png", "1-2.png", "1-4.png"], "ins_en": "Make frame 3."}
    },
    "multi-element_composition": {
        "1": {"ori_img": ["1-1.png", "1-2.png", "1-3.png"], "ins_en": "Put all on the table."}
    },
    "biology": {
        "1": {"ori_img": "1.png", "ins_en": "Water it.", "explain_en": "Plants rise with water."}
    },
}


def kris(folder: Path, categories: Mapping[str, dict[str, Row]] = KRIS_ROWS) -> None:
    for category, rows in categories.items():
        write(folder / "KRIS_Bench" / category / "annotation.json", rows)
        for row in rows.values():
            names = row["ori_img"] if isinstance(row["ori_img"], list) else [row["ori_img"]]
            for name in names:
                write(folder / "KRIS_Bench" / category / name, "red")
            if "gt_img" in row:
                write(folder / "KRIS_Bench" / category / row["gt_img"], "blue")


GEDIT_ROWS: list[Row] = [
    {
        "task_type": task,
        "key": key,
        "instruction": "Make it green." if language == "en" else "变成绿色。",
        "instruction_language": language,
        "input_image": ("red", (32, 16)),
        "input_image_raw": ("red", (64, 32)),
        "Intersection_exist": key != "c",
    }
    for task, key, language in (
        ("color_alter", "a", "en"),
        ("color_alter", "b", "en"),
        ("subject-add", "c", "en"),
        ("color_alter", "d", "cn"),
    )
]


def gedit(folder: Path, rows: list[Row] = GEDIT_ROWS) -> None:
    parquet(folder / "data" / "train-00000-of-00001.parquet", rows)


IMGEDIT_ROWS: dict[str, Row] = {
    "1082": {"id": "animal/000000001.jpg", "prompt": "Make its shell blue.", "edit_type": "adjust"},
    "673": {"id": "style/000000002.jpg", "prompt": "As a woodcut.", "edit_type": "style"},
    "9": {"id": "style/000000003.jpg", "prompt": "As a fresco.", "edit_type": "style"},
}


def imgedit(folder: Path, rows: Mapping[str, Row] = IMGEDIT_ROWS) -> None:
    write(folder / "basic_edit.json", rows)
    for row in rows.values():
        write(folder / "Benchmark" / "singleturn" / row["id"], "red")


UNIREDIT_ROWS: list[Row] = [
    {
        "original_image_path": "original_image/maze/1.png",
        "reference_image_path": "reference_image/maze/1.png",
        "instruction": "Draw the way out.",
        "rules": "Walls cannot be crossed.",
        "name": "maze",
        "idx": 1,
        "reference_effect": "A line from the gate to the exit.",
    },
    {
        "original_image_path": "original_image/weather/1.png",
        "reference_image_path": "reference_image/weather/1.png",
        "instruction": "Let it rain.",
        "name": "weather",
        "idx": 1,
        "reference_effect": "A wet street.",
    },
]


def unireditbench(folder: Path, rows: list[Row] = UNIREDIT_ROWS) -> None:
    write(folder / "data.json", rows)
    for row in rows:
        write(folder / row["original_image_path"], "red")
        write(folder / row["reference_image_path"], "blue")


MAGICBRUSH_SESSIONS: dict[str, list[Row]] = {
    session: [
        {
            "input": f"{session}-{'input' if turn == 1 else f'output{turn - 1}'}.png",
            "mask": f"{session}-mask{turn}.png",
            "output": f"{session}-output{turn}.png",
            "instruction": f"Change number {turn}.",
        }
        for turn in range(1, turns + 1)
    ]
    for session, turns in (("30", 1), ("139", 2))
}


def magicbrush(folder: Path, sessions: Mapping[str, list[Row]] = MAGICBRUSH_SESSIONS) -> None:
    write(folder / "edit_sessions.json", sessions)
    names = {
        session: sorted({turn[key] for turn in turns for key in ("input", "output")})
        for session, turns in sessions.items()
    }
    captions = {session: {name: f"a {name}" for name in own} for session, own in names.items()}
    write(folder / "local_descriptions.json", captions)
    for session, own in names.items():
        for name in own:
            write(folder / "images" / session / name, "red" if "input" in name else "blue")


def magicbrush_parquet(folder: Path) -> None:
    """As the hub has the other splits."""
    rows = [
        {
            "img_id": session,
            "turn_index": turn,
            "source_img": "red",
            "mask_img": "white",
            "instruction": row["instruction"],
            "target_img": "blue",
        }
        for session, turns in MAGICBRUSH_SESSIONS.items()
        for turn, row in enumerate(turns, 1)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    parquet(folder / "data" / "dev-00000-of-00001.parquet", rows)


EMU_ROWS: list[Row] = [
    {
        "instruction": "Take the ball away.",
        "image": "red",
        "task": "remove",
        "split": "test",
        "idx": index,
        "hash": f"h{index}",
        "input_caption": "a dog with a ball",
        "output_caption": caption,
    }
    for index, caption in ((4, "a dog"), (7, "a dog with a ball"), (7, "a dog at rest"))
]


def emu_edit(folder: Path, rows: list[Row] = EMU_ROWS) -> None:
    parquet(folder / "data" / "test-00000-of-00002.parquet", rows[:1])
    parquet(folder / "data" / "test-00001-of-00002.parquet", rows[1:])
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows[:1])


MAKERS: dict[str, Callable[[Path], None]] = {
    "risebench": risebench,
    "kris": kris,
    "gedit": gedit,
    "imgedit": imgedit,
    "unireditbench": unireditbench,
    "magicbrush": magicbrush,
    "emu_edit": emu_edit,
}
"""By the benchmark's name on the command line."""


def parquet(path: Path, rows: Iterable[Row]) -> None:
    """Rows with pictures as the hub stores them, two to a row group.

    A picture is a colour, or a colour and a size, in a column whose name has `im` in it.
    """
    listed = list(rows)
    columns = {}
    for name in listed[0]:
        values = [row[name] for row in listed]
        if "image" in name or name.endswith("_img"):
            pairs = [value if isinstance(value, tuple) else (value, SIZE) for value in values]
            cells = [{"bytes": encoded(*pair), "path": None} for pair in pairs]
            columns[name] = pa.array(cells, _IMAGE)
        else:
            columns[name] = pa.array(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
