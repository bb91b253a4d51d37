"""Draw docs/demo.png from an output: .venv/bin/python docs/make_picture.py out/demo docs/demo.png.

Six samples, one instruction each, no target twice; a finished output of the recipe `mini`.
"""

import sys
import textwrap
from typing import Any

import PIL.Image
from PIL import ImageDraw, ImageFont

import reasonray

COLUMNS, ROWS = 3, 2
SIDE, GAP, TEXT = 288, 24, 150
PAPER, CARD, INK, SOFT, BOX = "#faf9f6", "#ffffff", "#1c1c21", "#66666f", "#e11d74"
MAX_LETTERS = 84
"""Of an instruction, so that it fits in three lines."""


def chosen(output: str) -> list[dict[str, Any]]:
    """The first samples with a box, each with a target and an instruction of its own."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in reasonray.read(output):
        new = {row["target_category"], row["selected_category"], row["instruction"]}
        if row["box"] and not new & seen and len(row["instruction"]) <= MAX_LETTERS:
            rows.append(row)
            seen |= new
    return rows[: COLUMNS * ROWS]


def draw(rows: list[dict[str, Any]]) -> PIL.Image.Image:
    """Cards of input, edited image and instruction."""
    width, height = 2 * SIDE + 3 * GAP, SIDE + TEXT + GAP
    sheet = PIL.Image.new(
        "RGB", (COLUMNS * (width + GAP) + GAP, ROWS * (height + GAP) + GAP), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(27), ImageFont.load_default(20)
    for index, row in enumerate(rows):
        left = GAP + index % COLUMNS * (width + GAP)
        top = GAP + index // COLUMNS * (height + GAP)
        pen.rounded_rectangle((left, top, left + width, top + height), 16, CARD, "#e4e1d9")
        for place, name in enumerate(("input_image", "edited_image")):
            picture = row[name]
            scale = SIDE / max(picture.size)
            size = tuple(round(side * scale) for side in picture.size)
            inset = [(SIDE - side) // 2 for side in size]
            corner = (left + GAP + place * (SIDE + GAP) + inset[0], top + GAP + inset[1])
            sheet.paste(picture.resize(size, PIL.Image.Resampling.NEAREST), corner)
            if place == 0:
                x0, y0, x1, y1 = (scale * side for side in row["box"])
                # Around the object, which may be small.
                box = (
                    corner[0] + x0 - 4,
                    corner[1] + y0 - 4,
                    corner[0] + x1 + 4,
                    corner[1] + y1 + 4,
                )
                pen.rectangle(box, outline=BOX, width=4)
        words = textwrap.fill(f"“{row['instruction']}”", 42)
        pen.multiline_text((left + GAP, top + SIDE + 2 * GAP - 6), words, INK, large, spacing=6)
        answer = f"{row['selected_category']} becomes {row['target_category']}"
        pen.text((left + width - GAP, top + height - 14), answer, SOFT, small, anchor="rs")
    return sheet


if __name__ == "__main__":
    draw(chosen(sys.argv[1])).save(sys.argv[2], optimize=True)
