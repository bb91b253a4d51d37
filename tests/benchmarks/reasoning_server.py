"""How busy the painter is behind a language model that thinks for 5 to 60 s a reply.

    python tests/benchmarks/reasoning_server.py [--rows 200] [--faster 10] [--paint-s 1.0]

The pools and sizes of `paper`, one actor of each pool, on a Ray of its own; the real stage
`propose` asks a local server, every sixth of whose first replies cannot be used. The painter
sleeps. All times are divided by `--faster`. Busy is the part of the time from the first reply to
the last painted row in which the painter is at work.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from reasonray import stages
from reasonray.core.images import encode_png
from reasonray.core.place import Place
from reasonray.core.recipe import Recipe, load
from reasonray.core.record import Row, sample_id
from reasonray.generation.run import run
from reasonray.stages.stage import Stage

THINKING_S = (5.0, 60.0)


class Server:
    """Answers P_replace's questions after a while that follows from the question."""

    def __init__(self, faster: float) -> None:
        self.faster = faster
        self.first_reply: float | None = None
        self.num_replies = 0
        self.at_once = self.most_at_once = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.port = 0

        async def start() -> None:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
            self.port = server.sockets[0].getsockname()[1]
            started.set()

        def forever() -> None:
            self.loop.run_until_complete(start())
            self.loop.run_forever()

        threading.Thread(target=forever, daemon=True).start()
        started.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other."""
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if length is None:
                break
            body = json.loads(await reader.readexactly(int(length[1])))
            raw = json.dumps(await self.reply(body)).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                + f"content-length: {len(raw)}\r\n\r\n".encode()
                + raw
            )
            await writer.drain()

    async def reply(self, body: dict) -> dict:
        """A completion, after some thought."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        question = "".join(turn["content"] for turn in body["messages"][1:])
        chance = random.Random(question)
        await asyncio.sleep(chance.uniform(*THINKING_S) / self.faster)
        is_first = len(body["messages"]) == 2
        [caption] = re.findall(r"a cat on a mat, \d+", body["messages"][1]["content"])
        content = json.dumps(
            {
                "selected_category": "cat",
                "target_category": "teapot",
                "instruction": "Let something stand there that a tired guest would be glad of.",
                "rationale": "A tired guest is glad of tea.",
                "reasoning_type": "causal",
                "edited_caption": caption.replace("cat", "teapot"),
            }
        )
        if is_first and chance.random() < 1 / 6:
            content = "I would rather not say."
        self.at_once -= 1
        self.num_replies += 1
        self.first_reply = self.first_reply or time.time()
        message = {"role": "assistant", "content": content}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


class Idle(Stage):
    """Passes rows on, with what later stages read."""

    def process(self, rows: list[Row]) -> None:
        """Nothing but an image and its caption."""
        for row in rows:
            if self.name == "load":
                pixels = np.random.default_rng(0).integers(0, 256, (256, 384, 3))
                row["input_image"] = encode_png(PIL.Image.fromarray(pixels.astype(np.uint8)))
            elif self.name == "caption":
                row["input_caption"] = f"a cat on a mat, {row['source_id']}"
            elif self.name == "ground":
                box = {"category": "cat", "box": [1.0, 2.0, 30.0, 40.0], "score": 0.9}
                row["detections"] = [box]  # type: ignore[list-item]


class Painter(Stage):
    """Takes its time, and notes when."""

    name = "paint"

    def __init__(self, seconds: float, notes: Path) -> None:
        self.seconds, self.notes = seconds, notes

    def process(self, rows: list[Row]) -> None:
        """Sleep for each row."""
        start = time.time()
        time.sleep(self.seconds * len(rows))
        with self.notes.open("a") as file:
            file.write(f"{start} {time.time()} {len(rows)}\n")
        for row in rows:
            row["edited_image"] = row["input_image"]


@dataclasses.dataclass(frozen=True)
class Build:
    """Makes the stages."""

    paint_s: float
    notes: Path

    def __call__(self, name: str, recipe: Recipe, threshold: float | None) -> Stage:
        if name == "propose":
            return stages.build(name, recipe)
        if name == "paint":
            return Painter(self.paint_s, self.notes)
        idle = Idle()
        idle.__class__ = type(f"Idle_{name}", (Idle,), {"name": name})
        return idle


@dataclasses.dataclass(frozen=True)
class Plan:
    """So many photographs."""

    num_rows: int

    def __call__(self, recipe: Recipe, folder: Place, notices: list[str]) -> Iterator[Row]:
        for number in range(self.num_rows):
            name = f"{number:05}"
            yield {
                "id": sample_id("III", "made", name),
                "part": "III",
                "source": "made",
                "source_id": name,
                "variation": 0,
                "input_uri": "",
                "license": "CC0-1.0",
            }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--faster", type=float, default=10.0)
    parser.add_argument("--paint-s", type=float, default=1.0, help="of one row, before --faster")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    server = Server(given.faster)
    recipe = load("paper", given.set, ["folder=made"], ["III"])
    pools = [
        pool.model_copy(update={"num_gpus": 0, "num_cpus": 0.5, "min_actors": 1, "max_actors": 1})
        for pool in recipe.pools
    ]
    server_config = recipe.language_model.server.model_copy(
        update={"base_url": f"http://127.0.0.1:{server.port}/v1"}
    )
    language_model = recipe.language_model.model_copy(update={"server": server_config})
    recipe = recipe.model_copy(update={"pools": pools, "language_model": language_model})
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        build = Build(given.paint_s / given.faster, notes)
        manifest = run(recipe, Path(folder) / "out", build=build, plan=Plan(given.rows))
        spans = [tuple(map(float, line.split())) for line in notes.read_text().splitlines()]
    assert server.first_reply is not None
    end = max(stop for _, stop, _ in spans)
    busy = sum(stop - start for start, stop, _ in spans)
    waited = min(start for start, _, _ in spans) - server.first_reply
    print(
        f"{manifest.accepted} of {manifest.inputs} rows, {server.num_replies} replies, at most "
        f"{server.most_at_once} at once\n"
        f"{end - server.first_reply:.1f} s from the first reply to the last painted row, "
        f"{waited:.1f} s of them before the first painted row\n"
        f"painter busy {busy / (end - server.first_reply):.0%} of that time"
    )


if __name__ == "__main__":
    main()
