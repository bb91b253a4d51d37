import numpy as np
import pyarrow as pa
import pytest

from reasonray.generation.audit import MAX_HASH_BITS, near_duplicates


def index(*rows: tuple[str, int, str | None]) -> pa.Table:
    keys = ("part", "variation", "image_hash")
    listed = [dict(zip(keys, row, strict=True)) for row in rows]
    for row in listed:
        row |= {"source": "toy", "source_id": "7", "id": f"{row['part']}/toy/7/{row['variation']}"}
        row |= {"status": "accepted"}
    return pa.Table.from_pylist(listed)


def test_an_edit_like_an_earlier_one_of_its_input_is_a_near_duplicate() -> None:
    rows = index(("III", 10, "00000000000000ff"), ("III", 2, "00000000000000fe"))
    # By variation, not by the id's letters: 2 comes before 10.
    assert near_duplicates(rows) == {"III/toy/7/10": "III/toy/7/2"}
    far = index(("III", 0, "00000000000000ff"), ("III", 1, "000000000000ff00"))
    assert near_duplicates(far) == {}


def test_pairs_of_part_one_are_never_near_duplicates() -> None:
    rows = index(("I", 0, "00000000000000ff"), ("I", 1, "00000000000000ff"))
    assert near_duplicates(rows) == {}
    missing = index(("II", 0, None), ("II", 1, None))
    assert near_duplicates(missing) == {}


def one_by_one(rows: pa.Table) -> dict[str, str]:
    """The same, row by row."""
    inputs: dict[tuple[str, str, str], list[dict[str, object]]] = {}
    for row in rows.to_pylist():
        if row["status"] == "accepted" and row["part"] != "I" and row["image_hash"]:
            inputs.setdefault((row["part"], row["source"], row["source_id"]), []).append(row)
    duplicates: dict[str, str] = {}
    for members in inputs.values():
        distinct: list[tuple[str, int]] = []
        for row in sorted(members, key=lambda row: row["variation"]):  # type: ignore[arg-type, return-value]
            bits = int(str(row["image_hash"]), 16)
            near = [name for name, other in distinct if (bits ^ other).bit_count() <= MAX_HASH_BITS]
            if near:
                duplicates[str(row["id"])] = near[0]
            else:
                distinct.append((str(row["id"]), bits))
    return duplicates


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_a_plain_loop_over_the_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    listed = []
    for number in range(300):
        part = str(rng.choice(["I", "II", "III"]))
        # Inputs of which one's name is the beginning of another's; few hashes, some close.
        name = str(rng.choice(["7", "7/0", "8", f"only{number}"]))
        bits = int(rng.choice([0, 2**63])) ^ int(rng.integers(16)) ^ int(rng.integers(8)) << 40
        listed.append(
            {
                "id": f"{part}/toy/{name}/{number}",
                "part": part,
                "source": str(rng.choice(["toy", "toy/7"])),
                "source_id": name,
                "variation": int(rng.permutation(300)[number]),
                "image_hash": None if rng.random() < 0.1 else f"{bits:016x}",
                "status": str(rng.choice(["accepted", "accepted", "rejected"])),
            }
        )
    rows = pa.Table.from_pylist(listed)
    expected = one_by_one(rows)
    assert len(expected) > 20
    assert near_duplicates(rows) == expected
