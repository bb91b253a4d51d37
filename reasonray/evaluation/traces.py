"""What was begun of a chunk of edits, in a folder beside its file, for the process after this one.

whole.SESSION-1, -2  each time that it was begun as a whole
alone                its rows are edited alone from now on
ROW.SESSION-1, -2    each time that a row was begun alone
ROW.late             it was not there in time
ROW.parquet          it is done

Beside all chunks of an editor:
stopped.SESSION      a chunk failed so alike that the session ended, which did not count it
"""

import hashlib

from reasonray.core.place import Place, make_folder, names, remove

MAX_ENDS = 2
"""A chunk or row with which so many processes of one session have ended is to blame: one may have
been on a machine that was lost, and who kills an evaluation kills a session."""

_WHOLE = "whole"
_STOPPED = "stopped."


class Traces:
    """Those of one chunk.

    Args:
        path: of the chunk's file.
        session: number of the evaluation's session.
    """

    def __init__(self, path: Place, session: int) -> None:
        self._folder = path.with_name(f"{path.stem}.rows")
        self._session = session

    def set_alone(self) -> None:
        """From now on the rows are edited alone."""
        self._touch(self._folder / "alone")

    def are_alone(self) -> bool:
        """Whether they are."""
        return bool((self._folder / "alone").exists())

    def begin_whole(self) -> None:
        """The chunk is begun as a whole."""
        self._begin(_WHOLE)

    def num_begun_whole(self) -> int:
        """How often it was, in this session; at most `MAX_ENDS`."""
        return self._num_begun(_WHOLE)

    def begin(self, item_id: str) -> None:
        """A row is begun."""
        self._begin(_name(item_id))

    def num_begun(self, item_id: str) -> int:
        """How often it was, as of the whole."""
        return self._num_begun(_name(item_id))

    def set_late(self, item_id: str) -> None:
        """A row was not there in time."""
        self._touch(self._folder / f"{_name(item_id)}.late")

    def is_late(self, item_id: str) -> bool:
        """Whether it was not."""
        return bool((self._folder / f"{_name(item_id)}.late").exists())

    def row(self, item_id: str) -> Place:
        """The file of a row that is done."""
        return self._folder / f"{_name(item_id)}.parquet"

    def set_stopped(self) -> None:
        """This session ends, as all of the chunk failed alike."""
        make_folder(self._folder.parent)
        (self._folder.parent / f"{_STOPPED}{self._session}").write_bytes(b"")

    def has_stopped_another(self) -> bool:
        """Whether a session before this one ended so, and nothing has gone well since."""
        return bool(self._stops() - {f"{_STOPPED}{self._session}"})

    def forget_stops(self) -> None:
        """Something has gone well."""
        for name in self._stops():
            remove(self._folder.parent / name)

    def _stops(self) -> set[str]:
        return {name for name in names(self._folder.parent) if name.startswith(_STOPPED)}

    def clear(self) -> None:
        """Forget all of it."""
        remove(self._folder)

    def _begin(self, name: str) -> None:
        self._touch(self._begun(name, self._num_begun(name) + 1))

    def _num_begun(self, name: str) -> int:
        return sum(self._begun(name, n).exists() for n in range(1, MAX_ENDS + 1))

    def _begun(self, name: str, number: int) -> Place:
        return self._folder / f"{name}.{self._session}-{number}"

    def _touch(self, path: Place) -> None:
        make_folder(self._folder)
        path.write_bytes(b"")


def _name(item_id: str) -> str:
    # An id may be any text.
    return hashlib.sha256(item_id.encode()).hexdigest()
