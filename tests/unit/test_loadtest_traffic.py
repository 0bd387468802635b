"""What a load test sends: shapes, moments of arrivals, the data pool, scenario files, and the key."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.errors import BadInput
from loadtest.results import WARM_UP
from loadtest.traffic import scenario as scenarios
from loadtest.traffic.arrivals import Arrival, arrivals, expected, total_seconds
from loadtest.traffic.clients import FAULTS, KINDS
from loadtest.traffic.key import key
from loadtest.traffic.plan import Options, make_plan
from loadtest.traffic.pool import Pool, require_enough, sentences_of_the_pool, table
from loadtest.traffic.scenario import DEFAULT, Data, load_scenario
from loadtest.traffic.shapes import MAX_RATE, SHAPES, Step, steps_of

DEVIATIONS = 8
"""Of the standard deviation: chance exceeds it once in 10^15 tries, and the seeds are fixed."""


# -- shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "rates", "seconds"),
    [
        ("smoke", [(7.5, 7.5)], [4]),
        ("staircase", [(2.5, 2.5), (5, 5), (7.5, 7.5), (10, 10)], [4] * 4),
        ("ramp", [(0, 10), (10, 10)], [8, 4]),
        ("spike", [(2.5, 2.5), (10, 10), (2.5, 2.5)], [4] * 3),
        ("soak", [(5, 5)] * 6, [40] * 6),
        ("breakpoint", [(5 * step, 5 * step) for step in range(1, 17)], [4] * 16),
    ],
)
def test_a_shape(shape: str, rates: list[tuple[float, float]], seconds: list[float]) -> None:
    """Each shape has the rates that its name promises, as multiples of the scenario's, after a warm-up at a quarter."""
    warm_up, *steps = steps_of(shape, 10, 4, 3)
    assert warm_up == Step(WARM_UP, 3, 2.5, 2.5)
    assert [(step.first, step.last) for step in steps] == rates
    assert [step.seconds for step in steps] == seconds
    assert len({step.name for step in steps}) == len(steps)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_a_length_of_its_own(shape: str) -> None:
    """Without --stage-seconds a stage has the shape's own length, and without a warm-up there is none."""
    _, seconds, build = SHAPES[shape]
    assert steps_of(shape, 10, None, 0) == build(10, seconds)


def test_a_soak_takes_an_hour() -> None:
    """The soak's own length is the hour that its description says."""
    assert total_seconds(steps_of("soak", 10, None, 0)) == 3600


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf, MAX_RATE * 1.01])
def test_a_rate_that_is_none(value: float) -> None:
    """A rate that cannot be sent is bad input, and the message names the option."""
    with pytest.raises(BadInput, match=r"^--rate"):
        steps_of("smoke", value, None, 10)


@pytest.mark.parametrize("value", [0, 0.99, -5, math.nan, math.inf, 1e9])
def test_a_stage_that_is_none(value: float) -> None:
    """A stage shorter than a second or longer than a week is bad input."""
    with pytest.raises(BadInput, match=r"^--stage-seconds"):
        steps_of("smoke", 1, value, 10)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_warm_up_that_is_none(value: float) -> None:
    """A warm-up of a length that is none is bad input, not a run without an end."""
    with pytest.raises(BadInput, match=r"^--warm-up-seconds"):
        steps_of("smoke", 1, None, value)


def test_an_unknown_shape() -> None:
    """An unknown shape is bad input, and the message lists the shapes."""
    with pytest.raises(BadInput, match=rf"--shape cliff: .*{', '.join(SHAPES)}"):
        steps_of("cliff", 1, None, 0)


# -- arrivals ----------------------------------------------------------------------------------------------------

STEPS = (Step("flat", 100, 20, 20), Step("ramp", 100, 0, 40), Step("none", 10, 0, 0), Step("down", 50, 30, 10))


def test_the_same_seed_gives_the_same_moments() -> None:
    """Two runs with one seed send at the same moments; another seed sends at others."""
    assert list(arrivals(STEPS, 5)) == list(arrivals(STEPS, 5))
    assert list(arrivals(STEPS, 5)) != list(arrivals(STEPS, 6))


@pytest.mark.parametrize("shares", [2, 3, 7])
def test_shares_together_are_exactly_one_generator(shares: int) -> None:
    """What several generators send is together what one would: nothing twice, nothing left out."""
    parts = [list(arrivals(STEPS, 5, share, shares)) for share in range(shares)]
    assert sorted(one for part in parts for one in part) == list(arrivals(STEPS, 5))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_arrival_is_within_its_stage() -> None:
    """Moments rise, numbers count from 0, and each arrival lies within the bounds of its stage."""
    every = list(arrivals(STEPS, 5))
    assert [one.number for one in every] == list(range(len(every)))
    assert [one.at for one in every] == sorted(one.at for one in every)
    bounds = [(sum(step.seconds for step in STEPS[:index]), step) for index, step in enumerate(STEPS)]
    assert all(bounds[one.stage][0] <= one.at < bounds[one.stage][0] + bounds[one.stage][1].seconds for one in every)


@pytest.mark.parametrize("seed", range(5))
def test_the_number_of_arrivals_is_that_of_the_rate(seed: int) -> None:
    """The counts of each stage, and of the halves of a ramp, are those of a Poisson process with these rates."""
    every = list(arrivals(STEPS, seed))
    counts = Counter(one.stage for one in every)
    first = sum(1 for one in every if one.stage == 1 and one.at < 150)
    for found, mean in ((counts[0], 2000), (counts[1], 2000), (first, 500), (counts[2], 0), (counts[3], 1000)):
        assert abs(found - mean) <= DEVIATIONS * math.sqrt(mean)
    assert expected(STEPS) == 5000
    assert total_seconds(STEPS) == 260


def test_gaps_are_those_of_independent_clients() -> None:
    """Gaps between arrivals vary as in a Poisson process: their standard deviation is their mean."""
    every = list(arrivals((Step("flat", 1000, 20, 20),), 3))
    gaps = [later.at - one.at for one, later in itertools.pairwise(every)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert 0.9 < deviation / mean < 1.1


def test_no_rate_no_arrival() -> None:
    """A stage without a rate has no arrivals and ends."""
    assert list(arrivals((Step("none", 5, 0, 0), Step("one", 1, 50, 50)), 1))[0].at > 5  # noqa: RUF015 - the first
    assert [*arrivals((), 1)] == list[Arrival]()


# -- the pool ----------------------------------------------------------------------------------------------------

DATA = Data(datasets=2, rows=10, sentences=tuple(f"sentence {number}" for number in range(100)))
IDS = ("a", "b")


def test_no_two_new_wishes_are_equal() -> None:
    """Without repeats every request of the pool comes once, and then the pool is used up, which is bad input."""
    pool = Pool(IDS, DATA, 0)
    drawn = [pool.draw() for _ in range(200)]
    assert len(set(drawn)) == 200
    assert not any(wish.repeated for wish in drawn)
    with pytest.raises(BadInput, match="used up"):
        pool.draw()


def test_equal_sentences_are_one() -> None:
    """A sentence that a scenario names twice is drawn once: the second would be a repeat that is not counted."""
    pool = Pool(IDS, Data(datasets=2, sentences=("x", "y", "x")), 0)
    assert len({pool.draw() for _ in range(4)}) == 4
    with pytest.raises(BadInput, match="used up"):
        pool.draw()


def test_the_chosen_share_repeats() -> None:
    """The share of repeats is the scenario's, and each repeats a request that was made before."""
    ids = tuple(str(number) for number in range(100))
    pool = Pool(ids, Data(datasets=100), 0.4)
    made: set[tuple[str, str]] = set()
    repeated = 0
    for _ in range(5000):
        wish = pool.draw()
        assert ((wish.dataset_id, wish.sentence) in made) == wish.repeated
        made.add((wish.dataset_id, wish.sentence))
        repeated += wish.repeated
    assert abs(repeated - 2000) <= DEVIATIONS * math.sqrt(5000 * 0.4 * 0.6)


def test_the_pools_of_several_generators_are_disjoint() -> None:
    """Generators never send the same new request, and together they have the whole pool."""
    pools = [Pool(IDS, DATA, 0, share=share, shares=3) for share in range(3)]
    drawn = [[pool.draw() for _ in range(66)] for pool in pools]
    assert len({wish for part in drawn for wish in part}) == 198


def test_the_pools_own_sentences_differ() -> None:
    """The pool has hundreds of sentences, no two of them equal."""
    assert len(set(sentences_of_the_pool())) == len(sentences_of_the_pool()) > 500


def test_a_table_is_the_same_for_its_seed() -> None:
    """The same seed makes the same bytes, another one others, with as many rows as were asked for."""
    assert table(20, 3) == table(20, 3) != table(20, 4)
    assert len(table(20, 3).splitlines()) == 21
    assert len(table(1, 3).splitlines()) == 2


@pytest.mark.parametrize(("wishes", "shares"), [(195, 1), (150, 3), (1e9, 1)])
def test_a_pool_that_may_not_be_enough(wishes: float, shares: int) -> None:
    """A run whose clients could find the pool empty, if only by chance, is bad input."""
    with pytest.raises(BadInput, match="the data pool has 200 different requests and this run needs about"):
        require_enough(DATA, 0, wishes, shares)


@pytest.mark.parametrize(("repeats", "wishes", "shares"), [(0, 145, 1), (0.5, 290, 1), (0, 110, 3), (1, 1e9, 1)])
def test_a_pool_that_is_enough(repeats: float, wishes: float, shares: int) -> None:
    """A pool that no chance can empty is taken; repeats need nothing new."""
    require_enough(DATA, repeats, wishes, shares)


# -- scenario files ----------------------------------------------------------------------------------------------


def write(folder: Path, document: Any) -> Path:
    """Write a scenario file."""
    path = folder / "scenario.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def sound() -> dict[str, Any]:
    """A scenario with every field."""
    return {
        "rate": 3,
        "mix": {"upload": 1, "poll_status": 3, "follow_events": 1},
        "repeat_share": 0.5,
        "data": {"datasets": 2, "rows": 10, "seed": 1, "sentences": ["Mean price"]},
        "model": "typical-llm",
    }


def test_a_scenario_is_read(tmp_path: Path) -> None:
    """Every field of a scenario arrives, and its digest is that of its contents."""
    path = write(tmp_path, sound())
    found, digest = load_scenario(path)
    assert (found.rate, found.repeat_share, found.model) == (3, 0.5, "typical-llm")
    assert found.mix.weights() == {"upload": 1, "poll_status": 3, "follow_events": 1}
    assert found.data == Data(2, 10, 1, ("Mean price",))
    assert found.asking_share == 0.2
    assert load_scenario(path)[1] == digest
    path.write_text(path.read_text() + "# changed\n")
    assert load_scenario(path)[1] != digest


def faulty(path: str, value: Any) -> dict[str, Any]:
    """Give a scenario with another value at a dotted path; `...` leaves it out."""
    document = sound()
    *parents, last = path.split(".")
    inner = document
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("rate", ..., "rate"),
        ("mix", ..., "mix"),
        ("rate", 0, "rate"),
        ("rate", -1, "rate"),
        ("rate", 1e6, "rate"),
        ("rate", "fast", "rate"),
        ("rate", math.nan, "rate"),
        ("rate", math.inf, "rate"),
        ("mix", {}, "mix"),
        ("mix", {"upload": 0}, "mix"),
        ("mix", [1], "mix"),
        ("mix.upload", -1, "mix.upload"),
        ("mix.upload", "often", "mix.upload"),
        ("mix.upload", math.nan, "mix.upload"),
        ("mix.teapot", 1, "teapot"),
        ("repeat_share", 1.5, "repeat_share"),
        ("repeat_share", -0.1, "repeat_share"),
        ("repeat_share", math.nan, "repeat_share"),
        ("data", 3, "data"),
        ("data.datasets", 0, "data"),
        ("data.datasets", 1.5, "data.datasets"),
        ("data.rows", 0, "data.rows"),
        ("data.seed", "x", "data.seed"),
        ("data.sentences", [], "data"),
        ("data.sentences", [3], "data.sentences"),
        ("data.sentences", "one", "data.sentences"),
        ("data.columns", 3, "columns"),
        ("model", 3, "model"),
        ("users", 10, "users"),
    ],
)
def test_a_faulty_scenario(tmp_path: Path, path: str, value: Any, named: str) -> None:
    """A field that is missing, wrong or unknown is bad input of one line that names the file and the field."""
    file = write(tmp_path, faulty(path, value))
    with pytest.raises(BadInput) as caught:
        load_scenario(file)
    sentence = str(caught.value)
    assert str(file) in sentence
    assert named in sentence.removeprefix(f"--scenario {file}")
    assert "\n" not in sentence


@pytest.mark.parametrize("text", ["", "[", "a: b: c", "- 1", "rate: !!python/object:os.system x", "\x00", "{rate: 1"])
def test_what_is_no_scenario(tmp_path: Path, text: str) -> None:
    """Broken YAML, and YAML that is something else, is bad input of one line that names the file."""
    file = write(tmp_path, text)
    with pytest.raises(BadInput, match=f"^--scenario {file}: .+"):
        load_scenario(file)


def test_no_scenario(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is bad input."""
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load_scenario(tmp_path)


def test_the_mix_names_every_kind_of_client() -> None:
    """A scenario can name exactly the clients that there are, and the default one sends all of them."""
    assert scenarios.Mix.__struct_fields__ == tuple(KINDS)
    assert set(scenarios.ASKING) < set(KINDS)
    assert set(load_scenario(DEFAULT)[0].mix.weights()) == set(KINDS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("generators", [1, 4])
def test_every_shape_runs_with_the_default_scenario(shape: str, generators: int) -> None:
    """The committed scenario has data enough for every shape."""
    plan = make_plan(Options(shape, "run", generators=generators))
    assert len(plan.datasets) == plan.scenario.data.datasets
    assert all(dataset.startswith("run-") for dataset in plan.datasets)


def test_a_plan_takes_the_rate_of_the_command_line() -> None:
    """--rate takes the place of the scenario's rate, and a pool that is too small for it is bad input."""
    assert make_plan(Options("smoke", "run", rate=2)).steps[1].mean == 1.5
    with pytest.raises(BadInput, match="the data pool has"):
        make_plan(Options("smoke", "run", rate=50_000))


def test_bad_clients_cover_every_refusal() -> None:
    """The clients that must be refused expect 4xx answers, of several kinds."""
    assert {fault.status for fault in FAULTS} == {400, 401, 404, 405, 415, 422}


# -- the key -----------------------------------------------------------------------------------------------------


def test_the_key_is_in_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FEATURE_AGENT_KEY_FILE goes first; white space around a key is none of it."""
    (tmp_path / "key").write_text(" from-file\n")
    monkeypatch.setenv("FEATURE_AGENT_KEY", "from-environment")
    assert key() == "from-environment"
    monkeypatch.setenv("FEATURE_AGENT_KEY_FILE", str(tmp_path / "key"))
    assert key() == "from-file"


@pytest.mark.parametrize(
    ("content", "named"), [(None, "cannot be read"), (b"", "no API key"), (b"\xff\xfe", "no text")]
)
def test_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, named: str) -> None:
    """A key file that is missing, empty or no text is bad input."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("FEATURE_AGENT_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(BadInput, match=named):
        key()


@pytest.mark.parametrize(("shape", "waves"), [("tide", 1), ("tides", 2)])
def test_tides_rise_stay_and_fall_back(shape: str, waves: int) -> None:
    """An autoscaler has to follow: a tenth of the rate, rising over two parts, all for three, a tenth for eight."""
    low, *steps = steps_of(shape, 50.0, 10.0, 0.0)
    assert (low.name, low.seconds, low.first, low.last) == ("low", 10.0, 5.0, 5.0)
    assert [(step.seconds, step.first, step.last) for step in steps] == waves * [
        (20.0, 5.0, 50.0),
        (30.0, 50.0, 50.0),
        (80.0, 5.0, 5.0),
    ]
    assert len({step.name for step in steps}) == len(steps)
