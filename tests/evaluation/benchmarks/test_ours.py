"""Folders of our own benchmark that somebody has changed or damaged."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_editors import benchmark, pair

from reasonray.core.errors import UserError
from reasonray.evaluation.benchmarks.ours import SCHEMA, Ours


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_file_without_a_column_is_named(tmp_path: Path, column: str) -> None:
    path = benchmark(tmp_path, [pair(0)]) / "pairs/00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(UserError, match=rf"pairs/00000\.parquet: without {column}; copy or make"):
        Ours(str(tmp_path)).items()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"instructions": None},
        {"instructions": []},
        {"instructions": [None]},
        {"instructions": [{"kind": None, "text": "go"}]},
        {"instructions": [{"kind": "direct", "text": "go"}, {"kind": "direct", "text": None}]},
        {"instructions": [{"kind": "direct", "text": ""}]},
    ],
)
def test_a_pair_without_an_id_or_an_instruction_is_named(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    benchmark(tmp_path, [pair(0), pair(1, **changes)])
    with pytest.raises(UserError, match=r"pairs/00000\.parquet#0/1: expected an id, and of each"):
        Ours(str(tmp_path)).items()


def test_a_pair_may_lack_what_is_known_of_it(tmp_path: Path) -> None:
    unknown = dict.fromkeys(("input_caption", "truth_caption", "part", "box", "license"))
    first, _ = Ours(str(benchmark(tmp_path, [pair(0, **unknown)]))).items()
    assert (first.input_caption, first.reference_text, first.fields["box"]) == ("", "", None)


def test_instructions_of_another_type_are_named(tmp_path: Path) -> None:
    path = benchmark(tmp_path, [pair(0)]) / "pairs/00000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("instructions")
    pq.write_table(table.set_column(place, "instructions", pa.array([["go"]])), path)
    with pytest.raises(UserError, match=r"pairs/00000\.parquet#0/0: expected an id, and of each"):
        Ours(str(tmp_path)).items()
