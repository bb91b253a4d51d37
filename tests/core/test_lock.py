import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reasonray.core.errors import UserError
from reasonray.core.lock import STALE_S
from reasonray.generation.workspace import Workspace


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    with (
        workspace.locked(),
        pytest.raises(UserError, match=f"another run .*process {os.getpid()}"),
        Workspace(tmp_path / "out").locked(),
    ):
        pass
    with Workspace(tmp_path / "out").locked():
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from reasonray.generation.workspace import Workspace\n"
        "with Workspace(sys.argv[1]).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "out" / ".run" / "lock").exists()
    with Workspace(tmp_path / "out").locked():
        pass


def test_a_lock_of_another_host_holds_while_its_heart_beats(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    workspace.folder.mkdir(parents=True)
    lock = workspace.folder / "lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "now"}))
    with pytest.raises(UserError, match="process 1 on elsewhere"), workspace.locked():
        pass
    long_ago = time.time() - STALE_S - 1
    os.utime(lock, (long_ago, long_ago))
    with workspace.locked():
        pass
