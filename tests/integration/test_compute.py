"""The engine on real Parquet files: evidence, publication, export, failure."""

from __future__ import annotations

import asyncio
import csv
import json
import math
import random
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from service.concurrency.deadline import deadline
from service.engines.duckdb import sample as sample_module
from service.engines.duckdb import sandbox as sandbox_module
from service.engines.duckdb.association import cramers_v, separation
from service.engines.duckdb.drift import population_stability
from service.engines.duckdb.engine import DuckDBEngine
from service.engines.limits import Limits
from service.features import operations as op
from service.features.errors import ComputeFailed, ComputeOutOfMemory, DatasetNotFound, DeadlineExceeded
from service.features.model import (
    ColumnProfile,
    Dataset,
    FeatureEvidence,
    FeaturePlan,
    Grain,
    PlannedFeature,
    Profile,
    ValueCount,
)
from service.features.operations import AnyOperation, Predicate
from service.features.tables import Tables

LIMITS = Limits(memory_bytes=256 * 2**20, threads=2, scratch_bytes=64 * 2**20, seconds=60.0)
LOGICAL = {
    "VARCHAR": "categorical",
    "TIMESTAMP": "datetime",
    "DOUBLE": "numeric",
    "BIGINT": "integer",
    "BOOLEAN": "boolean",
}
START = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class FolderArtifacts:
    """Artifacts in a folder: what the engine asks of the port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """The stored file itself."""
        yield self.folder / key

    async def put_file(self, key: str, path: Path) -> None:
        """Move the file in."""
        await asyncio.to_thread(path.replace, self.folder / key)


class Room:
    """An engine, and datasets for it."""

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.engine = DuckDBEngine(FolderArtifacts(folder), limits, self.scratch)  # type: ignore[arg-type] - the part the engine uses

    def dataset(self, columns: dict[str, str], rows: Sequence[Sequence[Any]], **changes: Any) -> Dataset:
        """A dataset of these rows, stored as ingest stores it; `personal` names personal columns."""
        personal, logical = changes.get("personal", ()), LOGICAL | changes.get("logical", {})
        with duckdb.connect() as connection:
            quoted = ['"' + name.replace('"', '""') + '"' for name in columns]
            typed = ", ".join(f"{name} {physical}" for name, physical in zip(quoted, columns.values(), strict=True))
            connection.execute(f"CREATE TABLE t ({typed}, __row_id BIGINT)")
            content = [dict(zip(columns, row, strict=True)) for row in rows]
            source = self.folder / "rows.json"
            source.write_text(
                "\n".join(json.dumps({**row, "__row_id": place}, default=str) for place, row in enumerate(content))
            )
            if content:
                wanted = columns | {"__row_id": "BIGINT"}
                connection.read_json(str(source), columns=wanted, format="newline_delimited").insert_into("t")
            connection.table("t").write_parquet(str(self.folder / "data.parquet"))
        known = [
            ColumnProfile(name, place, logical[physical], physical, 0.0, 2, personal=name in personal)
            for place, (name, physical) in enumerate(columns.items())
        ]
        return Dataset(
            "d", "me", "text/csv", 1, "data.parquet", Profile(len(rows), tuple(known), "f"), datetime.now(UTC)
        )

    async def evidence(self, dataset: Dataset, plan: FeaturePlan, target: str | None = None) -> list[FeatureEvidence]:
        """What the engine measures."""
        async with self.engine.compute(Tables(dataset), plan) as table:
            return list(await self.engine.measure(table, target=target))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An engine in a folder of its own."""
    return Room(tmp_path)


def plan(
    *operations: AnyOperation, grain: Grain = "row", entity: str | None = None, time: str | None = None
) -> FeaturePlan:
    """A plan of features f0, f1 …."""
    features = tuple(PlannedFeature(f"f{place}", "A feature.", one) for place, one in enumerate(operations))
    return FeaturePlan(grain, features, entity, time)


def read(path: Path) -> list[dict[str, Any]]:
    """A Parquet file's rows."""
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path))
        return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


async def test_statistics_are_those_of_the_values(room: Room) -> None:
    """Counts, moments, median and top values of each type of feature, by hand."""
    columns = {"x": "DOUBLE", "c": "VARCHAR", "b": "BOOLEAN", "y": "BIGINT"}
    rows = [(1.5, "a", True, 2), (2.5, "b", None, 2), (None, "a", False, 9), (2.5, None, True, 2)]
    dataset = room.dataset(columns, rows)
    x, c, b, y, missing = await room.evidence(
        dataset, plan(op.Value("x"), op.Value("c"), op.Value("b"), op.Value("y"), op.IsMissing("x"))
    )
    assert (x.dtype, x.statistics.count, x.statistics.null_ratio, x.statistics.distinct_count) == ("number", 4, 0.25, 2)
    assert (x.statistics.minimum, x.statistics.maximum, x.statistics.median) == (1.5, 2.5, 2.5)
    assert x.statistics.mean == pytest.approx(6.5 / 3)
    assert x.statistics.standard_deviation == pytest.approx(statistics.stdev([1.5, 2.5, 2.5]))
    assert x.statistics.top_values == (ValueCount("2.5", 2), ValueCount("1.5", 1))
    assert x.top_share == pytest.approx(2 / 3)
    assert (c.dtype, c.statistics.mean, c.statistics.distinct_count) == ("string", None, 2)
    assert c.statistics.top_values == (ValueCount("a", 2), ValueCount("b", 1))
    assert (b.dtype, b.statistics.mean) == ("boolean", pytest.approx(2 / 3))
    assert b.statistics.top_values == (ValueCount("true", 2), ValueCount("false", 1))
    assert (y.dtype, y.statistics.top_values) == ("integer", (ValueCount("2", 3), ValueCount("9", 1)))
    assert missing.statistics.top_values == (ValueCount("0", 3), ValueCount("1", 1))


async def test_numbers_that_are_none_are_counted_before_they_go(room: Room) -> None:
    """NaN and infinities count as non-finite, and as null in everything else."""
    dataset = room.dataset({"x": "DOUBLE"}, [(1e300,), (2.0,), (3.0,), (None,)])
    (square,) = await room.evidence(dataset, plan(op.Product("x", "x")))
    assert square.non_finite_ratio == 0.25
    assert square.statistics.null_ratio == 0.5
    assert (square.statistics.minimum, square.statistics.maximum) == (4.0, 9.0)


async def test_statistics_too_large_for_a_number_are_left_out(room: Room) -> None:
    """A mean or deviation that overflows is none, rather than infinite on the wire."""
    dataset = room.dataset({"x": "DOUBLE"}, [(1.7e308,), (1.7e308,), (-1.7e308,)])
    (found,) = await room.evidence(dataset, plan(op.Value("x")))
    assert found.statistics.standard_deviation is None
    assert found.statistics.maximum == 1.7e308


async def test_personal_values_are_not_listed(room: Room) -> None:
    """A feature made of a personal column has no top values, but its share."""
    rows = [("ann@example.com",), ("bob@example.com",), ("ann@example.com",)]
    dataset = room.dataset({"email": "VARCHAR"}, rows, personal=("email",))
    length, contains = await room.evidence(dataset, plan(op.TextLength("email"), op.TextContains("email", "ann")))
    assert length.statistics.top_values == contains.statistics.top_values == ()
    assert contains.top_share == pytest.approx(2 / 3)


async def test_an_empty_dataset_is_measured(room: Room) -> None:
    """Nothing in, nothing out, and no division by the number of rows."""
    dataset = room.dataset({"x": "DOUBLE", "c": "VARCHAR", "t": "DOUBLE"}, [])
    x, c = await room.evidence(dataset, plan(op.Value("x"), op.Value("c")), target="t")
    assert (x.statistics.count, x.statistics.null_ratio, x.statistics.mean, x.top_share) == (0, 1.0, None, 0.0)
    assert c.statistics.top_values == ()
    assert c.target_association is None


async def test_published_tables_hold_keys_and_named_features(room: Room) -> None:
    """Rows come in the order of their id, with entity and time, and only what was asked for."""
    rows = [("b", START + timedelta(days=1), 3.0), ("a", START, 1e300), (None, START, 2.0)]
    dataset = room.dataset({"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    wanted = plan(op.Value("x"), op.Product("x", "x"), entity="user", time="at")
    async with room.engine.compute(Tables(dataset), wanted) as table:
        assert table.row_count == 3
        assert "READ_PARQUET" not in table.sql
        await table.publish(["f1"], "out.parquet")
    assert read(room.folder / "out.parquet") == [
        {"row_id": 0, "user": "b", "at": START + timedelta(days=1), "f1": 9.0},
        {"row_id": 1, "user": "a", "at": START, "f1": None},
        {"row_id": 2, "user": None, "at": START, "f1": 4.0},
    ]
    assert list(room.scratch.iterdir()) == []


async def test_the_published_statement_gives_the_published_table(room: Room) -> None:
    """The statement that is shown, run by itself on the dataset, gives what was published."""
    rows = [(f"u{index % 7}", START + timedelta(hours=index), float(index % 13)) for index in range(60)]
    dataset = room.dataset({"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    wanted = plan(op.Count((), 1), op.Trend("x", "at"), op.Entropy("x"), grain="entity", entity="user", time="at")
    async with room.engine.compute(Tables(dataset), wanted) as table:
        await table.publish(["f0", "f1", "f2"], "out.parquet")
        with duckdb.connect() as connection:
            connection.read_parquet(str(room.folder / "data.parquet")).create("dataset")
            shown = connection.execute(table.sql).fetchall()
    assert [tuple(row.values()) for row in read(room.folder / "out.parquet")] == shown


async def test_hostile_column_names_go_through(room: Room) -> None:
    """Columns may be called anything: computed, measured, correlated and published alike."""
    names = ['"; DROP TABLE computed; --', 'we"ird', "a'b\\", "😀"]
    rows = [(float(index), index % 3, f"c{index % 4}", float(index % 5)) for index in range(50)]
    dataset = room.dataset(dict(zip(names, ("DOUBLE", "BIGINT", "VARCHAR", "DOUBLE"), strict=True)), rows)
    wanted = plan(op.Value(names[0]), op.Value(names[1]), op.ZScore(names[0], names[2]), entity=names[2])
    async with room.engine.compute(Tables(dataset), wanted) as table:
        evidence = await room.engine.measure(table, target=names[3])
        assert [found.statistics.null_ratio for found in evidence] == [0.0, 0.0, 0.0]
        await table.publish(["f0"], "out.parquet")
    assert [row["f0"] for row in read(room.folder / "out.parquet")] == [float(index) for index in range(50)]
    assert names[2] in read(room.folder / "out.parquet")[0]


def dated(rows: int) -> list[tuple[Any, ...]]:
    """Rows with a column that is steady, one that shifts halfway, and texts of both kinds."""
    chance = random.Random(7)  # noqa: S311 - data, not secrets
    return [
        (
            START + timedelta(minutes=index),
            chance.random(),
            chance.random() + (1 if index >= rows / 2 else 0),
            "ab"[chance.random() < 0.5],
            "early" if index < rows / 2 else "late",
        )
        for index in range(rows)
    ]


DATED = {"at": "TIMESTAMP", "steady": "DOUBLE", "shifted": "DOUBLE", "kind": "VARCHAR", "season": "VARCHAR"}


async def test_drift_tells_shifted_from_steady(room: Room) -> None:
    """A distribution that moves between the halves in time has a high index, a steady one nearly none."""
    dataset = room.dataset(DATED, dated(1000))
    wanted = plan(op.Value("steady"), op.Value("shifted"), op.Value("kind"), op.Value("season"), time="at")
    steady, shifted, kind, season = (found.drift for found in await room.evidence(dataset, wanted))
    assert steady is not None
    assert steady < 0.1
    assert shifted is not None
    assert shifted > 5
    assert kind is not None
    assert kind < 0.1
    assert season is not None
    assert season > 5


async def test_drift_needs_time_rows_and_row_grain(room: Room) -> None:
    """The order of a file, a handful of rows, and entities have no earlier and later half."""
    dataset = room.dataset(DATED, dated(1000))
    assert (await room.evidence(dataset, plan(op.Value("shifted"))))[0].drift is None
    entities = plan(op.Aggregate("shifted", "mean"), grain="entity", entity="season", time="at")
    assert (await room.evidence(dataset, entities))[0].drift is None
    few = room.dataset(DATED, dated(100))
    assert (await room.evidence(few, plan(op.Value("shifted"), time="at")))[0].drift is None


async def test_rows_without_time_are_in_neither_half(room: Room) -> None:
    """When no row is later than the middle, there is no drift to speak of."""
    rows = [(START if index % 2 else None, float(index)) for index in range(500)]
    dataset = room.dataset({"at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    assert (await room.evidence(dataset, plan(op.Value("x"), time="at")))[0].drift is None


def test_the_stability_index_is_the_formula() -> None:
    """Two bins of 80:20 against 50:50, by hand; a bin outside those listed is one more."""
    by_hand = (0.5 - 0.8) * math.log(0.5 / 0.8) + (0.5 - 0.2) * math.log(0.5 / 0.2)
    assert population_stability([(80, 50), (20, 50)], 100, 100) == pytest.approx(by_hand)
    assert population_stability([(80, 50)], 100, 100) == pytest.approx(by_hand)
    assert population_stability([(5, 0)], 5, 0) is None
    assert population_stability([(10, 10)], 10, 10) == 0.0


LABELLED = {
    "n": "DOUBLE", "copy": "DOUBLE", "noise": "DOUBLE", "flag": "BOOLEAN", "label": "VARCHAR", "code": "VARCHAR",
    "other": "VARCHAR",
}  # fmt: skip


def labelled(rows: int = 300) -> list[tuple[Any, ...]]:
    """A number, a monotone copy of it, noise; a flag and labels that follow from the number, and one that does not."""
    chance = random.Random(3)  # noqa: S311 - data, not secrets
    numbers = [chance.gauss(0, 1) for _ in range(rows)]
    return [
        (x, math.exp(x), chance.random(), x > 0, "low" if x < -0.5 else "high" if x > 0.5 else "mid",
         "L" if x < -0.5 else "H" if x > 0.5 else "M", "pqr"[chance.randrange(3)])
        for x in numbers
    ]  # fmt: skip


async def association(room: Room, target: str, *operations: AnyOperation) -> list[float]:
    """Each feature's association with the target."""
    found = await room.evidence(room.dataset(LABELLED, labelled()), plan(*operations), target)
    return [one.target_association for one in found if one.target_association is not None]


async def test_association_with_a_number(room: Room) -> None:
    """A monotone copy gives a numeric target away, a label of it nearly so, noise not at all."""
    copy, noise, label, other = await association(
        room, "n", op.Value("copy"), op.Value("noise"), op.Value("label"), op.Value("other")
    )
    assert copy == pytest.approx(1.0)
    assert noise < 0.2
    assert 0.85 < label < 1
    assert other < 0.2


async def test_association_with_a_flag(room: Room) -> None:
    """Two classes are told apart wholly by the number they were made of (the area under the curve is 1)."""
    number, noise, label, other = await association(
        room, "flag", op.Value("n"), op.Value("noise"), op.Value("label"), op.Value("other")
    )
    assert number == pytest.approx(1.0)
    assert noise < 0.2
    assert 0.6 < label < 1
    assert other < 0.2


async def test_association_with_classes(room: Room) -> None:
    """A renamed label gives the label away; the number it was cut from does nearly; noise does not."""
    code, number, noise, other = await association(
        room, "label", op.Value("code"), op.Value("n"), op.Value("noise"), op.Value("other")
    )
    assert code == pytest.approx(1.0)
    assert 0.85 < number < 1
    assert noise < 0.25
    assert other < 0.2


async def test_association_of_text_alone(room: Room) -> None:
    """A plan without any number is associated with numbers and classes alike."""
    assert 0.85 < (await association(room, "n", op.Value("label")))[0] < 1
    assert await association(room, "label", op.Value("code")) == [pytest.approx(1.0)]


async def test_association_at_entity_grain(room: Room) -> None:
    """The target is brought to the entity: its mean, or its most frequent class."""
    columns = {"user": "VARCHAR", "x": "DOUBLE", "t": "DOUBLE", "c": "VARCHAR"}
    rows = [
        (f"u{user:03}", float(user), 2.0 * user + step, "even" if user % 2 == 0 else "odd")
        for user in range(60)
        for step in (0, 1, 2)
    ]
    dataset = room.dataset(columns, [*rows, (None, 1.0, 5.0, "even"), ("u001", 1.0, None, None)])
    wanted = plan(op.Aggregate("x", "mean"), op.Count(), grain="entity", entity="user")
    mean, count = await room.evidence(dataset, wanted, target="t")
    assert mean.target_association == pytest.approx(1.0)
    assert count.target_association is not None
    assert count.target_association < 0.5
    classes = plan(op.Aggregate("x", "mean"), op.MostFrequent("c"), grain="entity", entity="user")
    mean, frequent = await room.evidence(dataset, classes, target="c")
    assert mean.target_association is not None
    assert mean.target_association < 0.2
    assert frequent.target_association == pytest.approx(1.0)


async def test_association_with_a_time(room: Room) -> None:
    """A datetime target is a number: its instant."""
    rows = [(START + timedelta(days=index), float(index)) for index in range(40)]
    dataset = room.dataset({"at": "TIMESTAMP", "x": "DOUBLE"}, rows)
    (found,) = await room.evidence(dataset, plan(op.Value("x")), target="at")
    assert found.target_association == pytest.approx(1.0)


async def test_a_target_that_tells_nothing_is_not_associated(room: Room) -> None:
    """A constant target, one of few rows, one that names each row, and a constant feature give no association."""
    columns = {"x": "DOUBLE", "same": "VARCHAR", "key": "VARCHAR", "one": "DOUBLE", "c": "VARCHAR", "t": "VARCHAR"}
    rows = [(float(index), "s", f"k{index}", 1.0, "q", "ab"[index % 2]) for index in range(1500)]
    dataset = room.dataset(columns, rows)
    wanted = plan(op.Value("x"), op.Value("c"))
    for target in ("same", "key"):
        assert [found.target_association for found in await room.evidence(dataset, wanted, target)] == [None, None]
    few = room.dataset(columns, rows[:20])
    assert [found.target_association for found in await room.evidence(few, wanted, "t")] == [None, None]
    constant = room.dataset(columns, rows)
    (found,) = await room.evidence(constant, plan(op.Value("one")), "t")
    assert found.target_association == pytest.approx(0.0)
    (textual,) = await room.evidence(constant, plan(op.Value("key")), "x")
    assert textual.target_association is None


def test_measures_of_association_by_hand() -> None:
    """Formulas on tables small enough to work out."""
    assert separation([(20, 0.25, 0.0), (20, 0.75, 0.0)], 40) == pytest.approx(1.0)
    assert separation([(20, 0.5, 5.0), (20, 0.5, 5.0), (20, 0.5, 5.0)]) == 0.0
    assert separation([(40, 0.5, 1.0), (0, 0.0, 0.0)]) is None
    assert cramers_v(40, 2, 2, 2.0) == pytest.approx(1.0)
    assert cramers_v(40, 2, 2, 1.0) == 0.0
    assert cramers_v(40, 1, 2, 1.0) is None
    assert cramers_v(30, 30, 30, 30.0) == 0.0


async def test_correlations_name_earlier_features(room: Room) -> None:
    """A monotone transform correlates fully with what comes before it; unrelated columns are not named."""
    dataset = room.dataset(LABELLED, labelled())
    _, copy, noise, label, code, other = await room.evidence(
        dataset,
        plan(
            op.Value("n"), op.Value("copy"), op.Value("noise"), op.Value("label"), op.Value("code"), op.Value("other")
        ),
    )
    assert copy.correlations == {"f0": pytest.approx(1.0)}
    assert noise.correlations == {}
    assert label.correlations == {}
    assert code.correlations == {"f3": 1.0}
    assert other.correlations == {}


async def test_few_rows_do_not_correlate(room: Room) -> None:
    """Five rows are no evidence that two features say the same."""
    dataset = room.dataset(LABELLED, labelled(5))
    found = await room.evidence(dataset, plan(op.Value("n"), op.Value("copy"), op.Value("label"), op.Value("code")))
    assert [one.correlations for one in found] == [{}, {}, {}, {}]


async def test_large_tables_are_sampled_the_same_way_each_time(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the sample's size, counts and moments stay exact, the rest comes close, and twice gives the same."""
    monkeypatch.setattr(sample_module, "SAMPLE_ROWS", 2_000)
    monkeypatch.setattr(sample_module, "SMALLEST_SAMPLE", 2_000)
    dataset = room.dataset(DATED, dated(8_000))
    wanted = plan(op.Value("steady"), op.Value("shifted"), op.Logarithm("steady"), op.Value("kind"), time="at")
    first = await room.evidence(dataset, wanted, target="season")
    assert first == await room.evidence(dataset, wanted, target="season")
    steady, shifted, logarithm, kind = first
    assert steady.statistics.count == 8_000
    assert steady.statistics.distinct_count == pytest.approx(8_000, rel=0.1)
    assert steady.statistics.median == pytest.approx(0.5, abs=0.05)
    assert sum(value.count for value in kind.statistics.top_values) == 8_000
    assert shifted.drift is not None
    assert shifted.drift > 5
    assert shifted.target_association == pytest.approx(1.0, abs=0.02)
    assert logarithm.correlations == {"f0": pytest.approx(1.0)}


async def test_many_features_are_measured_together(room: Room) -> None:
    """A hundred features are computed, ranked and correlated within the memory that twenty may use."""
    rows = [(float(index), index % 17) for index in range(120)]
    dataset = room.dataset({"x": "DOUBLE", "y": "BIGINT"}, rows)
    flags = [op.Flag((Predicate("x", "lt", (limit + 0.5,)),)) for limit in range(100)]
    found = await room.evidence(dataset, plan(*flags))
    assert [one.statistics.mean for one in found[:3]] == [pytest.approx(n / 120) for n in (1, 2, 3)]
    assert found[60].correlations["f59"] > 0.95


async def test_statistics_do_not_know_the_order_of_rows(room: Room) -> None:
    """Sums of floating-point numbers depend on their order, which threads decide: what is answered does not."""
    chance = random.Random(11)  # noqa: S311 -- repeatable, guards nothing
    values = [chance.gauss(48.0, 4.0) for _ in range(400)]
    found: list[FeatureEvidence] = []
    for _ in range(10):
        chance.shuffle(values)
        found += await room.evidence(room.dataset({"x": "DOUBLE"}, [(value,) for value in values]), plan(op.Value("x")))
    assert [one.statistics for one in found] == [found[0].statistics] * 10
    assert found[0].statistics.mean == pytest.approx(math.fsum(values) / 400, rel=1e-11)
    third = 0.1 + 0.2
    (constant,) = await room.evidence(room.dataset({"x": "DOUBLE"}, [(third,)] * 30), plan(op.Value("x")))
    assert constant.statistics.mean == constant.statistics.minimum == constant.statistics.maximum == third


async def test_export_renders_the_table(room: Room) -> None:
    """CSV has a header and empty fields for nulls; NDJSON one object a row; Parquet is the file itself."""
    dataset = room.dataset({"x": "DOUBLE", "c": "VARCHAR"}, [(1.5, 'say "hi", then\ngo'), (None, "é")])
    async with room.engine.compute(Tables(dataset), plan(op.Value("x"), op.Value("c"))) as table:
        await table.publish(["f0", "f1"], "out.parquet")
    expected = [{"row_id": 0, "f0": 1.5, "f1": 'say "hi", then\ngo'}, {"row_id": 1, "f0": None, "f1": "é"}]
    as_csv = await room.engine.export("out.parquet", "text/csv")
    with as_csv.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["row_id", "f0", "f1"], ["0", "1.5", 'say "hi", then\ngo'], ["1", "", "é"]]
    as_ndjson = await room.engine.export("out.parquet", "application/x-ndjson")
    assert [json.loads(line) for line in as_ndjson.read_text(encoding="utf-8").splitlines()] == expected
    as_parquet = await room.engine.export("out.parquet", "application/vnd.apache.parquet")
    assert read(as_parquet) == expected
    assert sorted(room.scratch.iterdir()) == sorted([as_csv, as_ndjson, as_parquet])


async def test_csv_for_spreadsheets_holds_no_formula(room: Room) -> None:
    """An apostrophe stands before texts and names that begin as a formula; all else is exact."""
    formulas = [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1+2",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20a",
    ]
    plain = ["'=1", "a=1", " -", "", None]
    rows = [(text, -1.5, -(2**53) - 1, "-3") for text in (*formulas, *plain)]
    typed = room.dataset({"=t": "VARCHAR", "-n": "DOUBLE", "big": "BIGINT", "\uff1du": "VARCHAR"}, rows)
    key = typed.artifact_key
    exact = await room.engine.export(key, "text/csv")
    safe = await room.engine.export(key, "text/csv;safe=spreadsheet")
    with exact.open(newline="", encoding="utf-8") as as_is, safe.open(newline="", encoding="utf-8") as guarded:
        (names, *cells), (safe_names, *safe_cells) = csv.reader(as_is), csv.reader(guarded)
    assert names[:4] == ["=t", "-n", "big", "\uff1du"]
    assert safe_names == ["'=t", "'-n", "big", "'\uff1du", *names[4:]]
    assert [row[0] for row in cells] == [*formulas, *plain[:-1], ""]
    assert [row[0] for row in safe_cells] == [*(f"'{text}" for text in formulas), *plain[:-1], ""]
    assert {tuple(row[1:4]) for row in safe_cells} == {("-1.5", "-9007199254740993", "'-3")}
    assert [row[4:] for row in safe_cells] == [row[4:] for row in cells]


async def test_a_failed_export_leaves_nothing(room: Room) -> None:
    """A file that is no Parquet is an error of ours, without its path or content, and no file stays behind."""
    (room.folder / "broken.parquet").write_bytes(b"secret cells")
    with pytest.raises(ComputeFailed) as caught:
        await room.engine.export("broken.parquet", "text/csv")
    assert "secret" not in caught.value.message
    assert str(room.folder) not in caught.value.message
    assert list(room.scratch.iterdir()) == []


async def test_a_broken_dataset_fails_without_telling_its_content(room: Room) -> None:
    """The engine's own error text, which may quote cells and paths, is not passed on."""
    dataset = room.dataset({"x": "DOUBLE"}, [(1.0,)])
    (room.folder / "data.parquet").write_bytes(b"PAR1 secret cells PAR1")
    with pytest.raises(ComputeFailed) as caught:
        await room.evidence(dataset, plan(op.Value("x")))
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None
    assert list(room.scratch.iterdir()) == []


async def test_a_dataset_deleted_meanwhile_is_not_found(room: Room) -> None:
    """Deleting a dataset while it is asked for ends the extraction as the client's doing, before or between reads."""
    dataset = room.dataset({"n": "BIGINT"}, [[1], [2]])
    (room.folder / "data.parquet").unlink()
    with pytest.raises(DatasetNotFound, match="deleted"):
        await room.evidence(dataset, plan(op.Value("n")))


async def test_publishing_into_a_full_folder_fails_plainly(room: Room) -> None:
    """A write that the engine cannot do is its failure, not a crash."""
    dataset = room.dataset({"x": "DOUBLE"}, [(1.0,)])
    async with room.engine.compute(Tables(dataset), plan(op.Value("x"))) as table:
        (table.box.folder / "features.parquet").mkdir()
        with pytest.raises(ComputeFailed):
            await table.publish(["f0"], "out.parquet")


def heavy(room: Room) -> tuple[Dataset, FeaturePlan]:
    """A dataset and a plan that take long and much memory: wide windows over one entity."""
    dataset = room.dataset({"user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE"}, [])
    with duckdb.connect() as connection:
        rows = connection.sql(
            "SELECT 'u' AS user, TIMESTAMP '2024-01-01' + INTERVAL (range) SECOND AS at, range * 1.5 AS x, "
            "range AS __row_id FROM range(400000)"
        )
        rows.write_parquet(str(room.folder / "data.parquet"))
    windows = [op.RollingStatistic("x", "user", "at", days, "standard_deviation") for days in range(1, 30)]
    return dataset, plan(*windows, entity="user", time="at")


async def test_progress_is_told_within_statements(
    room: Room, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The share of the work grows while a long statement reads its rows, up to all of it; nothing is drawn for it."""
    monkeypatch.setattr(sandbox_module, "WATCH_SECONDS", 0.005)
    places = 400_000
    with duckdb.connect() as connection:
        query = f"SELECT i % 997 AS k, random() AS x, i AS __row_id FROM range({places}) t(i)"  # noqa: S608 - a number
        connection.sql(query).write_parquet(str(room.folder / "data.parquet"))
    columns = (
        ColumnProfile("k", 0, "integer", "BIGINT", 0.0, 997),
        ColumnProfile("x", 1, "numeric", "DOUBLE", 0.0, places),
    )
    dataset = Dataset("d", "me", "text/csv", 1, "data.parquet", Profile(places, columns, "f"), datetime.now(UTC))
    ranks = [op.PercentRank("x"), op.PercentRank("k")]
    told: list[float] = []
    measured: list[float] = []
    async with room.engine.compute(Tables(dataset), plan(*ranks), progress=told.append) as table:
        await room.engine.measure(table, target=None, progress=measured.append)
    for shares in (told, measured):
        assert shares == sorted(set(shares))
        assert shares[-1] == 1.0
        assert len(shares) >= 3
    assert capfd.readouterr() == ("", "")


async def test_cancelling_stops_the_computation(room: Room) -> None:
    """A cancelled extraction leaves neither a running statement nor a file."""
    dataset, wanted = heavy(room)
    running = asyncio.create_task(room.evidence(dataset, wanted))
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list(room.scratch.iterdir()) == []


async def test_computations_end_within_their_time(tmp_path: Path) -> None:
    """A plan over the engine's time is interrupted with an error that says so."""
    room = Room(tmp_path, Limits(LIMITS.memory_bytes, 1, LIMITS.scratch_bytes, seconds=0.3))
    with pytest.raises(DeadlineExceeded):
        await room.evidence(*heavy(room))


async def test_the_deadline_around_a_computation_ends_it(room: Room) -> None:
    """A request's deadline counts where it is earlier than the engine's own time."""
    with deadline(0.3), pytest.raises(DeadlineExceeded):
        await room.evidence(*heavy(room))
    assert [*room.scratch.glob("*")] == []  # on a slow machine it ended before there was a folder


async def test_computations_stay_within_their_memory(tmp_path: Path) -> None:
    """A plan over the engine's memory fails as the request's, not the service's, fault."""
    room = Room(tmp_path, Limits(16 * 2**20, 1, 2**20, seconds=60))
    with pytest.raises(ComputeOutOfMemory):
        await room.evidence(*heavy(room))


async def test_the_engine_can_be_pinged(tmp_path: Path) -> None:
    """A ping opens a sandbox; where none can be made, it says so."""
    await Room(tmp_path).engine.ping()
    (tmp_path / "file").write_text("no folder")
    broken = DuckDBEngine(FolderArtifacts(tmp_path), LIMITS, tmp_path / "file")  # type: ignore[arg-type] - the part the engine uses
    with pytest.raises(ComputeFailed):
        await broken.ping()


async def test_what_is_ingested_can_be_computed(room: Room) -> None:
    """An uploaded CSV goes through ingest, and its columns through a plan."""
    (room.folder / "upload").write_text(
        "user,at,amount\na,2024-01-01 10:00:00,2\na,2024-01-03 10:00:00,4\nb,2024-01-05 10:00:00,1\n"
    )
    profile = await room.engine.ingest("upload", "text/csv", "data.parquet")
    dataset = Dataset("d", "me", "text/csv", 1, "data.parquet", profile, datetime.now(UTC))
    wanted = plan(op.Aggregate("amount", "sum"), op.Recency("at"), grain="entity", entity="user", time="at")
    async with room.engine.compute(Tables(dataset), wanted) as table:
        await table.publish(["f0", "f1"], "out.parquet")
    assert read(room.folder / "out.parquet") == [
        {"user": "a", "f0": 6.0, "f1": 2.0},
        {"user": "b", "f0": 1.0, "f1": 0.0},
    ]
