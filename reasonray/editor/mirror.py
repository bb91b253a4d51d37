"""Where a training's first process writes as it goes on: in its output, or beside one on a store.

Figures come line by line, and those who show them (`loggers`) append to files of their own: a store
takes whole files only. There they are written to a folder of this machine, and sent.
"""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from reasonray.core.errors import ReasonrayError
from reasonray.core.place import Place, reached, versions
from reasonray.core.writing import send
from reasonray.editor.loggers import RUNS
from reasonray.editor.metrics_log import METRICS

_EVERY_S = 10.0
_OLDER = ("tensorboard",)
"""Folders that are read when a training goes on."""


class Mirror:
    """A folder of this machine that shows in an output.

    Args:
        output: of a training.
        folder: that very one, or one that is empty.

    Attributes:
        folder: to write in.
    """

    def __init__(self, output: Place, folder: Path) -> None:
        self.output, self.folder = output, folder
        self._sent: dict[str, tuple[int, int]] = {}
        self._sending = threading.Lock()

    def fetch(self) -> None:
        """Take what a training that goes on has written before.

        Raises:
            UserError, RunError: the store does not give it.
        """
        if isinstance(self.output, Path):
            return
        # Nothing is sent meanwhile: it would be half of what is fetched.
        with self._sending, reached(self.output):
            there = [name for name in (METRICS, RUNS) if (self.output / name).exists()]
            there += [
                f"{folder}/{file[0]}"
                for folder in _OLDER
                for file in versions(self.output / folder)
            ]
            for name in there:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                self.output.fs.get_file((self.output / name).path, str(self.folder / name))
            self._sent = self._state()

    def send(self, *names: str) -> None:
        """Have the output show what has changed.

        Args:
            names: only these files; by default all.

        Raises:
            UserError, RunError: the store does not take it.
        """
        if isinstance(self.output, Path):
            return
        with self._sending, reached(self.output):
            state = self._state()
            changed = [
                name
                for name, version in state.items()
                if self._sent.get(name) != version and (not names or name in names)
            ]
            send(self.folder, self.output, changed)
            self._sent.update({name: state[name] for name in changed})

    def _state(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file; of links, which W&B makes, the files are there themselves."""
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }


@contextlib.contextmanager
def mirrored(output: Place) -> Iterator[Mirror]:
    """A folder for what a training writes as it goes on.

    What is in it shows in the output after each `Mirror.send` and at the block's end, the metrics
    every few seconds.

    Raises:
        UserError, RunError: a store does not take it.
    """
    if isinstance(output, Path):
        yield Mirror(output, output)
        return
    with tempfile.TemporaryDirectory(prefix="reasonray-") as above:
        # By its name loggers call the run.
        folder = Path(above) / output.name
        folder.mkdir()
        mirror = Mirror(output, folder)
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(_EVERY_S):
                # A store that is away for a moment is for the training itself to find.
                with contextlib.suppress(ReasonrayError):
                    mirror.send(METRICS)

        thread = threading.Thread(target=follow, name="reasonray-mirror", daemon=True)
        thread.start()
        try:
            yield mirror
        except BaseException:
            with contextlib.suppress(ReasonrayError):
                mirror.send()
            raise
        else:
            mirror.send()
        finally:
            stop.set()
            thread.join()
