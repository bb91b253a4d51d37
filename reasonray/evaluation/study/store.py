"""The study's database: one SQLite file, `study.db`, beside the folder `pictures`.

Answers are only ever added. Of several answers of a worker to one question the last one counts,
and the others stay. An answer is on the disk before anybody is told so: a server that is killed, or
a machine that loses its power, takes none along.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reasonray.core.errors import UserError

DATABASE, PICTURES = "study.db", "pictures"

# "rrst", so that another program's database is not taken for a study.
_APPLICATION = 0x72727374

_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE editors (editor INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE workers (worker INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE questions (
    question INTEGER PRIMARY KEY,
    item TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    category TEXT NOT NULL,
    instruction TEXT NOT NULL,
    picture TEXT NOT NULL UNIQUE
);
CREATE TABLE candidates (
    picture TEXT PRIMARY KEY,
    question INTEGER NOT NULL REFERENCES questions,
    editor INTEGER NOT NULL REFERENCES editors,
    UNIQUE (question, editor)
);
-- What a worker is asked, and where on the page each candidate stands: both count from 1.
CREATE TABLE tasks (
    worker INTEGER NOT NULL REFERENCES workers,
    task INTEGER NOT NULL,
    question INTEGER NOT NULL REFERENCES questions,
    PRIMARY KEY (worker, task),
    UNIQUE (worker, question)
);
CREATE TABLE shown (
    worker INTEGER NOT NULL,
    task INTEGER NOT NULL,
    place INTEGER NOT NULL,
    picture TEXT NOT NULL REFERENCES candidates,
    PRIMARY KEY (worker, task, place),
    UNIQUE (worker, task, picture),
    FOREIGN KEY (worker, task) REFERENCES tasks (worker, task)
);
CREATE TABLE answers (
    answer INTEGER PRIMARY KEY AUTOINCREMENT,
    worker INTEGER NOT NULL,
    task INTEGER NOT NULL,
    picture TEXT NOT NULL,
    at TEXT NOT NULL,
    FOREIGN KEY (worker, task, picture) REFERENCES shown (worker, task, picture)
);
CREATE TRIGGER answers_are_not_changed BEFORE UPDATE ON answers
    BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
CREATE TRIGGER answers_are_not_deleted BEFORE DELETE ON answers
    BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
CREATE VIEW picks AS
    SELECT worker, task, picture FROM answers
    WHERE answer IN (SELECT max(answer) FROM answers GROUP BY worker, task);
"""

# How long a writer waits for another.
_BUSY_S = 30.0


class NoSuchChoiceError(Exception):
    """An answer names a question or a picture that its worker was not shown."""


@dataclass(frozen=True)
class StoredQuestion:
    """A question as the study shows it.

    Attributes:
        item: the item's id.
        kind: of instruction.
        category: the item's group.
        instruction: what was to be done.
        before: file in `PICTURES`.
        after: editor -> file in `PICTURES`.
    """

    item: str
    kind: str
    category: str
    instruction: str
    before: str
    after: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """What one worker is asked, in the words of the page.

    Attributes:
        task: its number, from 1, of the worker's.
        instruction: what was to be done.
        before: file in `PICTURES`.
        candidates: files in `PICTURES`, in the order of the page.
        answer: the one that was chosen last; None: not answered.
    """

    task: int
    instruction: str
    before: str
    candidates: Sequence[str]
    answer: str | None


@dataclass(frozen=True)
class Pick:
    """A worker's answer that counts.

    Attributes:
        worker: from 1.
        question: with all its pictures.
        editor: whose picture was chosen.
        place: where it stood on the page, from 1.
    """

    worker: int
    question: StoredQuestion
    editor: str
    place: int


@dataclass(frozen=True)
class Worker:
    """One who answers.

    Attributes:
        number: from 1.
        token: the secret part of the link.
        num_tasks: questions to answer.
        num_answered: of them.
    """

    number: int
    token: str
    num_tasks: int
    num_answered: int


class Store:
    """A study's database, opened anew for each call: any thread and process may use it.

    Args:
        folder: of the study.

    Raises:
        UserError: there is no study in it.
    """

    def __init__(self, folder: Path) -> None:
        self.pictures = folder / PICTURES
        self._path = folder / DATABASE
        try:
            if not self._path.is_file():
                raise UserError(
                    f"{folder}: no study is there; `reasonray study create {folder} …` makes one"
                )
            with self._opened() as database:
                [application] = database.execute("PRAGMA application_id").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{self._path}: cannot be opened ({error})") from error
        if application != _APPLICATION:
            raise UserError(f"{self._path}: is no study's database")

    @staticmethod
    def create(
        folder: Path,
        editors: Sequence[str],
        questions: Sequence[StoredQuestion],
        tokens: Sequence[str],
        tasks: Sequence[Sequence[tuple[str, Sequence[str]]]],
        settings: Mapping[str, Any],
    ) -> None:
        """Write a new study's database.

        Args:
            folder: has none yet.
            editors: names, in the order of the report.
            questions: with an answer of each editor.
            tokens: of each worker.
            tasks: of each worker: item and editors, both in the order in which they are shown.
            settings: how the study was made, for the report; anything that JSON holds.
        """
        files = {question.item: question for question in questions}
        numbers = {question.item: number for number, question in enumerate(questions, start=1)}
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database, database:
            database.executescript(f"PRAGMA application_id = {_APPLICATION};{_SCHEMA}")
            _insert(
                database,
                "settings",
                [(name, json.dumps(value)) for name, value in settings.items()],
            )
            _insert(database, "editors", list(enumerate(editors, start=1)))
            _insert(database, "workers", list(enumerate(tokens, start=1)))
            for question in questions:
                number = numbers[question.item]
                row = (question.item, question.kind, question.category, question.instruction)
                _insert(database, "questions", [(number, *row, question.before)])
                after = [(question.after[name], number, i) for i, name in enumerate(editors, 1)]
                _insert(database, "candidates", after)
            for worker, listed in enumerate(tasks, start=1):
                for task, (item, order) in enumerate(listed, start=1):
                    _insert(database, "tasks", [(worker, task, numbers[item])])
                    names = [files[item].after[editor] for editor in order]
                    shown = [(worker, task, place, name) for place, name in enumerate(names, 1)]
                    _insert(database, "shown", shown)
        # Readers do not wait for a writer, nor the other way round; the file remembers it.
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
            database.execute("PRAGMA journal_mode = WAL")

    def worker(self, token: str) -> int | None:
        """Whose token it is; None: nobody's."""
        with self._opened() as database:
            row = database.execute(
                "SELECT worker FROM workers WHERE token = ?", (token,)
            ).fetchone()
        return None if row is None else int(row[0])

    def workers(self) -> list[Worker]:
        """All of them, and how far each has come."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT worker, token, (SELECT count(*) FROM tasks WHERE worker = w.worker), "
                "(SELECT count(*) FROM picks WHERE worker = w.worker) "
                "FROM workers AS w ORDER BY worker"
            ).fetchall()
        return [Worker(*row) for row in rows]

    def tasks(self, worker: int) -> list[Task]:
        """What a worker is asked, in order, with what has been answered."""
        with self._opened() as database:
            candidates: dict[int, list[str]] = {}
            for task, picture in database.execute(
                "SELECT task, picture FROM shown WHERE worker = ? ORDER BY task, place", (worker,)
            ):
                candidates.setdefault(task, []).append(picture)
            rows = database.execute(
                "SELECT task, instruction, questions.picture, picks.picture FROM tasks "
                "JOIN questions USING (question) LEFT JOIN picks USING (worker, task) "
                "WHERE worker = ? ORDER BY task",
                (worker,),
            ).fetchall()
        return [
            Task(task, instruction, before, candidates[task], answer)
            for task, instruction, before, answer in rows
        ]

    def may_see(self, worker: int, picture: str) -> bool:
        """Whether a file of `PICTURES` belongs to a question that the worker is asked."""
        with self._opened() as database:
            row = database.execute(
                "SELECT 1 FROM shown WHERE worker = :worker AND picture = :picture UNION ALL "
                "SELECT 1 FROM tasks JOIN questions USING (question) "
                "WHERE worker = :worker AND picture = :picture",
                {"worker": worker, "picture": picture},
            ).fetchone()
        return row is not None

    def answer(self, worker: int, task: int, picture: str) -> None:
        """Add an answer; when this returns, it is on the disk.

        Args:
            worker: who answers.
            task: one of the worker's.
            picture: one of its candidates.

        Raises:
            NoSuchChoiceError: it is not.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._opened() as database:
            try:
                # A statement by itself is a transaction.
                database.execute(
                    "INSERT INTO answers (worker, task, picture, at) VALUES (?, ?, ?, ?)",
                    (worker, task, picture, at),
                )
            except sqlite3.IntegrityError as error:
                raise NoSuchChoiceError from error

    def editors(self) -> list[str]:
        """Their names, in the order in which the study was given them."""
        with self._opened() as database:
            rows = database.execute("SELECT name FROM editors ORDER BY editor").fetchall()
        return [name for (name,) in rows]

    def settings(self) -> dict[str, Any]:
        """How the study was made."""
        with self._opened() as database:
            rows = database.execute("SELECT name, value FROM settings").fetchall()
        return {name: json.loads(value) for name, value in rows}

    def num_asked(self) -> dict[str, tuple[int, int]]:
        """Kind -> its questions, and how often they are put to workers in all."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT kind, count(DISTINCT question), count(worker) FROM questions "
                "LEFT JOIN tasks USING (question) GROUP BY kind"
            ).fetchall()
        return {kind: (num_questions, num_tasks) for kind, num_questions, num_tasks in rows}

    def num_replaced(self) -> int:
        """Answers that a later one of the same worker to the same question has replaced."""
        with self._opened() as database:
            [number] = database.execute(
                "SELECT (SELECT count(*) FROM answers) - (SELECT count(*) FROM picks)"
            ).fetchone()
        return int(number)

    def picks(self) -> list[Pick]:
        """The answers that count, by worker and in the order of the worker's questions."""
        with self._opened() as database:
            after: dict[int, dict[str, str]] = {}
            for question, editor, picture in database.execute(
                "SELECT question, name, picture FROM candidates JOIN editors USING (editor) "
                "ORDER BY question, editor"
            ):
                after.setdefault(question, {})[editor] = picture
            questions = {
                question: StoredQuestion(item, kind, category, instruction, before, after[question])
                for question, item, kind, category, instruction, before in database.execute(
                    "SELECT question, item, kind, category, instruction, picture FROM questions"
                )
            }
            rows = database.execute(
                "SELECT worker, candidates.question, name, place FROM picks "
                "JOIN shown USING (worker, task, picture) JOIN candidates USING (picture) "
                "JOIN editors USING (editor) ORDER BY worker, task"
            ).fetchall()
        return [
            Pick(worker, questions[question], editor, place)
            for worker, question, editor, place in rows
        ]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # isolation_level None: what is executed is committed, unless it says BEGIN.
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None
        )
        with contextlib.closing(connection) as database:
            # To sync the log at each commit, not only now and then.
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
            yield database


def _insert(database: sqlite3.Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
