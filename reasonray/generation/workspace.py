"""`DIR/.run`: what a run keeps while it goes, so that it can be killed and started again.

    sessions/, hearts/      who works here (`core.session`), and what each has counted (`counts`)
    planned.json            of which session the plan is
    plan/<session>/         recipe.yaml: as run, with sources and parts; another one is refused
                            rows/*.parquet: one light row for each thing to do
                            candidates.parquet: with `accepted`, all rows in the order of planning
                            notices.json: what the user was told of the inputs before the start
    sources/                what sources write for themselves (the mini world's pictures)
    divergence.json         the rank form's threshold, once found
    work/<session>/         finished rows of one session (`work`)
    sealed/<session>        what counts of all sessions before it
    published/              which stretches of the plan are written (`publish`)

Nothing is renamed and nothing that counts is written again: the same on a disk and on an object
store. Knows nothing of Ray, models or what a row means.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import yaml

from reasonray.core.errors import UserError
from reasonray.core.place import Place, create, names, place, reached, read_json, remove
from reasonray.core.session import Session, session
from reasonray.core.writing import unusable
from reasonray.dataset.manifest import MANIFEST


class Workspace:
    """The `.run` folder of one output."""

    def __init__(self, output: str | Place) -> None:
        """Nothing is touched yet.

        Raises:
            UserError: the output is no folder or URI of a store, holds something else, was begun
                by an earlier version, or is out of reach.
        """
        self.output = place(output)
        self.folder = self.output / ".run"
        try:
            with reached(self.output):
                self._refuse_a_stranger()
        except OSError as error:
            raise unusable(self.output, error) from error

    @property
    def sessions_folder(self) -> Place:
        """Where sessions lie, and beside them what they have counted."""
        return self.folder / "sessions"

    @property
    def sources_folder(self) -> Place:
        """Where sources write for themselves."""
        return self.folder / "sources"

    @property
    def threshold_file(self) -> Place:
        """Where the rank form's threshold is kept."""
        return self.folder / "divergence.json"

    @property
    def plan_folder(self) -> Place | None:
        """Where the plan is; None: there is none yet."""
        try:
            content = read_json(self.folder / "planned.json")
        except FileNotFoundError:
            return None
        return self.draft(content["session"])

    def draft(self, name: str) -> Place:
        """Where a session writes its plan.

        Args:
            name: of the session.
        """
        return self.folder / "plan" / name

    def set_plan(self, name: str) -> None:
        """Have the plan that a session has written, whole, be the plan from now on.

        Raises:
            UserError: another session has planned meanwhile.
        """
        if not create(self.folder / "planned.json", json.dumps({"session": name}).encode()):
            raise UserError(f"output {self.output}: another run has planned here meanwhile")

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Hold the output for this process.

        Raises:
            UserError: another run holds it, or it cannot be made or written.
        """
        with session(self.folder, self.output) as held:
            yield held
        if (self.output / MANIFEST).exists():
            # All rows are published, and nobody will begin again.
            remove(self.folder)

    def recipe(self) -> dict[str, Any] | None:
        """The recipe that the plan was made with, or None."""
        folder = self.plan_folder
        if folder is None:
            return None
        path = folder / "recipe.yaml"
        try:
            content = yaml.safe_load(path.read_bytes())
        except yaml.YAMLError:
            content = None
        if not isinstance(content, dict):
            raise UserError(f"{path}: damaged (no recipe); it cannot be gone on with")
        return content

    def _refuse_a_stranger(self) -> None:
        if self.output.is_file():
            raise UserError(f"output {self.output}: is a file, not a folder")
        strangers = names(self.output)
        if strangers and ".run" not in strangers and MANIFEST not in strangers:
            raise UserError(
                f"output {self.output}: holds {strangers[0]} and is no output of reasonray; "
                "give a new or empty folder"
            )
        if ".run" in strangers and any(name.startswith("work-") for name in names(self.folder)):
            raise UserError(
                f"output {self.output}: was begun by an earlier version of reasonray, which alone "
                f"can go on with it; finish it there, or delete {self.folder} to begin anew"
            )
