import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonray.core import record
from reasonray.core.record import (
    ACCEPTED_SCHEMA,
    IMAGE,
    PLAN_SCHEMA,
    REJECTED_SCHEMA,
    WORKING_IMAGE,
    WORKING_SCHEMA,
    Row,
    add_scores,
    is_rejected,
    reject,
    sample_id,
    sample_part,
    sample_seed,
    to_rows,
    to_table,
)

text = st.text(max_size=12)
texts = st.lists(text, max_size=3)
number = st.floats(width=32, allow_nan=False)
image = st.fixed_dictionaries({"bytes": st.binary(max_size=9), "path": st.none() | text})
OF_TYPE: dict[pa.DataType, st.SearchStrategy[object]] = {
    pa.string(): text,
    pa.int32(): st.integers(0, 2**31 - 1),
    pa.int64(): st.integers(0, 2**63 - 1),
    pa.float32(): number,
    pa.large_binary(): st.binary(max_size=9),
}


def of_type(kind: pa.DataType) -> st.SearchStrategy[object]:
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: of_type(field.type) for field in kind})
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        return st.lists(of_type(kind.value_type), min_size=size, max_size=size)
    if pa.types.is_list(kind):
        return st.lists(of_type(kind.value_type), max_size=2)
    return OF_TYPE[kind]


rows = st.lists(
    st.fixed_dictionaries(
        {}, optional={field.name: of_type(field.type) for field in WORKING_SCHEMA}
    ),
    max_size=4,
)


@pytest.mark.nightly  # takes 3 GB of memory
def test_a_block_may_hold_more_than_two_gib_of_pictures() -> None:
    large: Row = {"id": "a", "input_image": {"bytes": bytes(60 * 2**20), "path": None}}
    batch = to_table([large] * 4)
    # As Ray Data puts batches together: in one piece, for which it would need 64-bit offsets.
    block = pa.concat_tables([batch] * 10).combine_chunks()
    assert block["input_image"].num_chunks == 1
    assert block["input_image"].nbytes > 2**31
    assert len(block["input_image"][39]["bytes"].as_py()) == 60 * 2**20


@given(rows=rows)
def test_rows_survive_the_journey_through_arrow(rows: list[Row]) -> None:
    table = to_table(rows)
    assert table.schema.equals(WORKING_SCHEMA)
    for before, after in zip(rows, to_rows(table), strict=True):
        assert set(after) == set(WORKING_SCHEMA.names)
        for name, value in after.items():
            empty: object = {} if name in ("scores", "provenance") else None
            assert value == before.get(name, empty)


def test_null_members_of_scores_and_provenance_are_left_out() -> None:
    (row,) = to_rows(to_table([{"scores": {"detection": 0.5}, "provenance": {"seed": 7}}]))
    assert row["scores"] == {"detection": 0.5}
    assert row["provenance"] == {"seed": 7}


def test_fields_outside_a_schema_are_left_out() -> None:
    table = to_table([{"id": "a", "instruction": "x"}], PLAN_SCHEMA)
    assert table.column_names == PLAN_SCHEMA.names


def test_the_schemas_hold_the_fields_of_a_row() -> None:
    assert set(WORKING_SCHEMA.names) == set(Row.__annotations__)
    for schema in (PLAN_SCHEMA, ACCEPTED_SCHEMA, REJECTED_SCHEMA):
        for field in schema:
            working = WORKING_SCHEMA.field(field.name)
            assert working.equals(field) or (field.type, working.type) == (IMAGE, WORKING_IMAGE)
    assert set(REJECTED_SCHEMA.names) - set(ACCEPTED_SCHEMA.names) == {"stage", "reason", "detail"}


def test_ids_are_readable_and_distinct() -> None:
    assert sample_id("III", "v3det-train", "17", 2) == "III/v3det-train/17/2"
    assert sample_id("I", "a", "1") != sample_id("II", "a", "1")
    assert sample_part(sample_id("II", "a/b", "1/2")) == "II"


def test_a_seed_is_the_same_for_ever() -> None:
    # A changed value would change every sample of every run that is resumed or made again.
    assert sample_seed(0, "III/mini/1/0", "paint") == 8165627514815073574
    assert sample_seed(0, "III/mini/1/0", "paint", attempt=1) != sample_seed(
        0, "III/mini/1/0", "paint"
    )


@given(st.integers(0, 2**40), text, text, st.integers(0, 9))
def test_seeds_fit_a_signed_64_bit_number(run: int, row_id: str, stage: str, attempt: int) -> None:
    seed = sample_seed(run, row_id, stage, attempt)
    assert 0 <= seed < 2**63
    assert seed == sample_seed(run, row_id, stage, attempt)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("ab1"), st.sampled_from("ab1")), unique=True
    )
)
def test_different_samples_have_different_seeds(keys: list[tuple[int, str, str]]) -> None:
    assert len({sample_seed(*key) for key in keys}) == len(keys)


def test_the_first_rejection_stands() -> None:
    row: Row = {"id": "a"}
    assert not is_rejected(row)
    reject(row, "load", "missing_image", "gone")
    reject(row, "paint", "error", "later")
    assert is_rejected(row)
    assert (row["stage"], row["reason"], row["detail"]) == ("load", "missing_image", "gone")


def test_scores_are_added_without_touching_a_shared_dict() -> None:
    shared: record.Scores = {"divergence": 0.1}
    first: Row = {"scores": shared}
    add_scores(first, detection=0.9)
    assert first["scores"] == {"divergence": 0.1, "detection": 0.9}
    assert shared == {"divergence": 0.1}


def test_a_value_of_the_wrong_type_is_our_bug_and_loud() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        to_table([{"box": [1.0, 2.0]}])
