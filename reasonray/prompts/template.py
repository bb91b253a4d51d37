"""Loads the prompt files and fills them in: chat messages out.

A file has `name:` and `version:` lines, then `[system]` and `[user]` parts with `$fields`; what
varies from row to row stands last in both, as servers cache what prompts begin with. Change a text
(`examples.yaml` too), raise its version: it is written into every row.
"""

import functools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from reasonray.core import record


class Message(TypedDict):
    """One chat turn; role is system, user or assistant."""

    role: str
    content: str


Turn = TypeVar("Turn", bound=Mapping[str, Any])
"""A chat turn of any content, such as one with pictures."""


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt file's content.

    Attributes:
        name: as in the paper, e.g. P_gen.
        version: of the texts.
        system: with `$examples` where they vary; empty when the file has no such part.
        user: with `$fields`.
    """

    name: str
    version: str
    system: str
    user: str

    @property
    def provenance(self) -> record.Prompt:
        """What is written into a row."""
        return {"name": self.name, "version": self.version}

    def messages(self, **fields: str) -> list[Message]:
        """The chat that asks.

        Args:
            fields: every field of both parts; pass captions through `one_line`, so that none
                can look like another field.
        """
        chat: list[Message] = []
        if self.system:
            system = string.Template(self.system).substitute(fields)
            chat.append({"role": "system", "content": system})
        content = string.Template(self.user).substitute(fields)
        chat.append({"role": "user", "content": content})
        return chat


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def numbered(candidates: list[str]) -> str:
    """The candidates for P_select, one a line, from 1."""
    return "\n".join(f"{i}. {one_line(text)}" for i, text in enumerate(candidates, 1))


def ask_again(messages: Sequence[Turn], reply: str, reason: str) -> list[Turn | Message]:
    """The chat continued: what was replied, and why it cannot be used."""
    again = load("again").messages(reason=one_line(reason))
    return [*messages, {"role": "assistant", "content": reply}, *again]


@functools.cache
def load(name: str) -> PromptTemplate:
    """The prompt of `<name>.txt` beside this module, e.g. gen or again."""
    text = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")
    head, *parts = text.split("\n[")
    keys = dict(line.split(": ", 1) for line in head.strip().splitlines())
    bodies = {part.split("]\n", 1)[0]: part.split("]\n", 1)[1].strip() for part in parts}
    return PromptTemplate(
        keys["name"], keys["version"], bodies.get("system", ""), bodies.get("user", "")
    )
