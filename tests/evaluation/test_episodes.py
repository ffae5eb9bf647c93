"""Results of several evaluations: what is combined, and which sentence refuses what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from long_tables import long_table

from tts_gym.errors import ResultsError, UsageError
from tts_gym.evaluation import Results, evaluate
from tts_gym.evaluation.episodes import load_results
from tts_gym.evaluation.sweep import Point, benchmarks_by_text, load_sweep, scopes
from tts_gym.pools import SyntheticSpec, generate

RIGHT = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
TOKENS = np.array([[10, 20], [30, 40], [50, 60]])
A = {("m/x", "a", 0.5): (RIGHT, TOKENS)}
B = {("m/x", "b", 0.5): (~RIGHT, 2 * TOKENS)}


def test_sums_over_orders_by_hand() -> None:
    sweep = load_sweep([long_table(A), long_table(B)])
    assert sweep.points == (Point("a", 0.5), Point("b", 0.5))
    assert (sweep.pools, sweep.benchmarks, sweep.orders) == (("m/x",), ("x",), 2)
    assert sweep.sums["correct"][0].tolist() == [[1, 2, 0], [1, 0, 2]]
    assert sweep.sums["tokens"][0].tolist() == [[30, 70, 110], [60, 140, 220]]
    assert sweep.sums["probes"][0].tolist() == [[2, 2, 2], [2, 2, 2]]


def test_the_order_of_rows_does_not_matter() -> None:
    results = long_table({**A, **B})
    shuffled = results.episodes.take(np.random.default_rng(0).permutation(results.episodes.num_rows))
    mixed, plain = load_sweep(Results([], shuffled, results.provenance)), load_sweep(results)
    k = [mixed.points.index(point) for point in plain.points]
    assert [m[k].tolist() for m in mixed.sums["tokens"]] == [p.tolist() for p in plain.sums["tokens"]]


def test_files_say_what_results_in_memory_say(tmp_path: Path) -> None:
    pools = [generate(SyntheticSpec(questions=3, branches=8), seed=s, name=f"m{s}/small") for s in (1, 2)]
    first = evaluate(["sc", "cmc"], pools, [0.0, 0.2], orders=4)
    second = evaluate(["asc", "cmc"], pools, [0.2, 0.1], orders=4)
    first.save_parquet(tmp_path / "1.parquet")
    second.save_parquet(tmp_path / "2.parquet")
    memory, files = load_sweep([first, second]), load_sweep([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert memory.points == files.points
    assert {(p.contestant, p.beta) for p in files.points} == {
        ("sc", 0.0), ("sc", 0.2), ("cmc", 0.0), ("cmc", 0.1), ("cmc", 0.2), ("asc", 0.1), ("asc", 0.2)
    }  # fmt: skip
    for measure, arrays in files.sums.items():
        assert all(np.array_equal(x, y) for x, y in zip(arrays, memory.sums[measure], strict=True))
    for row in (*first.rows, *second.rows):
        p, k = files.pools.index(row.pool), files.index(row.contestant, row.beta)
        assert 100 * files.sums["correct"][p][k].sum() / 12 == row.accuracy
        assert files.sums["sequential_tokens"][p][k].sum() / 12 == row.sequential_tokens


def test_a_file_in_many_pieces(tmp_path: Path) -> None:
    results = long_table({**A, **B, ("m/y", "a", 0.5): (RIGHT, TOKENS), ("m/y", "b", 0.5): (RIGHT, TOKENS)})
    for i, text in enumerate((pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))):
        table = results.episodes
        for name in ("pool", "contestant"):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(text))
        table = table.replace_schema_metadata({"tts_gym": json.dumps(results.provenance)})
        pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=5)
    sweep = load_sweep([tmp_path / f"{i}.parquet" for i in range(3)])
    assert sweep.pools == ("m/x", "m/y")
    assert [sums.tolist() for sums in sweep.sums["tokens"]] == [
        [[30, 70, 110], [60, 140, 220]], [[30, 70, 110], [30, 70, 110]]
    ]  # fmt: skip


def test_what_two_files_both_hold_is_taken_once(tmp_path: Path) -> None:
    both = load_results([long_table(A), long_table({**A, **B})])
    assert both.table.num_rows == 12
    assert list(both.provenances) == ["results 1", "results 2"]


def test_a_choice_of_pools_contestants_and_betas() -> None:
    results = long_table({**A, **B, ("m/y", "a", 0.5): (RIGHT, TOKENS), ("m/x", "a", 1.0): (RIGHT, TOKENS)})
    with pytest.raises(ResultsError, match=r"has no episodes on pool m/y, on which others have"):
        load_sweep(results)
    assert load_sweep(results, pools=["m/x"], betas=[0.5]).points == (Point("a", 0.5), Point("b", 0.5))
    assert load_sweep(results, contestants=["a"], betas=[0.5]).pools == ("m/x", "m/y")


def _changed(results: Results, name: str, values: Any) -> Results:
    at = results.episodes.column_names.index(name)
    return Results([], results.episodes.set_column(at, name, values), results.provenance)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (long_table(B, grading="math"), "results 1 and results 2 differ in grading: exact and math"),
        (long_table(B, merged=True), "differ in merging of equivalent answers: False and True"),
        (long_table(B, limits={"max_branches": 3}), "differ in limits: .*None.* and .*3"),
        (
            long_table(B, pools={"m/x": "c" * 64}),
            r"differ in content \(sha256\) of pool m/x: aaaaaaaaaaaa and cccccccccccc",
        ),
        (long_table(B, programs={"a": "c" * 64}), r"file \(sha256\) of contestant a: bbbbbbbbbbbb and cccccccccccc"),
        (
            long_table({("m/x", "b", 0.5): (RIGHT[:, :1], TOKENS[:, :1])}),
            r"differ in orders: 2 \(0 to 1\) and 1 \(0 to 0\)",
        ),
        (long_table(B, orders=[0, 2]), r"differ in orders: 2 \(0 to 1\) and 2 \(0, 2\)"),
        (long_table(B, questions=[0, 1, 5]), r"differ in questions of pool m/x: 3 \(0 to 2\) and 3 \(0, 1, 5\)"),
        (
            long_table({("m/x", "a", 0.5): (RIGHT, TOKENS + 1)}),
            "results 1 and results 2 both hold a at beta 0.5 on pool m/x, with different episodes",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(second: Results, says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        load_results([long_table(A), second])


def test_files_are_named(tmp_path: Path) -> None:
    long_table(A).save_parquet(tmp_path / "old.parquet")
    long_table(B, grading="math").save_parquet(tmp_path / "new.parquet")
    with pytest.raises(ResultsError, match=r"old\.parquet and .*new\.parquet differ in grading"):
        load_results([tmp_path / "old.parquet", tmp_path / "new.parquet"])
    with pytest.raises(ResultsError, match=r"old\.parquet is given twice"):
        load_results([tmp_path / "old.parquet", tmp_path / "old.parquet"])


def test_episodes_that_are_missing_or_there_twice_are_refused() -> None:
    results = long_table({**A, **B})
    table = results.episodes
    keep = [i for i in range(12) if i not in (3, 4)]  # a, question 1, order 1; a, question 2, order 0
    with pytest.raises(
        ResultsError,
        match=r"a at beta 0\.5 lacks 2 of 6 episodes on pool m/x, the first of them question 1 under order 1",
    ):
        load_sweep(Results([], table.take(keep), results.provenance))
    with pytest.raises(ResultsError, match=r"b at beta 0\.5 has 2 episodes of question 0 of pool m/x under order 1"):
        load_sweep(Results([], table.take([*range(12), 7]), results.provenance))


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (Results([], long_table(A).episodes.drop(["beta"]), {}), "the column 'beta' is missing"),
        (_changed(long_table(A), "tokens", pa.array(["x"] * 6)), "'tokens' should be a whole number, found string"),
        (_changed(long_table(A), "correct", pa.array([1] * 6)), "'correct' should be true or false, found int64"),
        (_changed(long_table(A), "pool", pa.array([1] * 6)), "'pool' should be text, found int64"),
        (_changed(long_table(A), "order", pa.array([1, None] * 3)), "'order' has 3 empty cells"),
        (_changed(long_table(A), "beta", pa.array([0.5] * 5 + [float("nan")])), "'beta' holds a value that is not"),
        (Results([], long_table(A).episodes.slice(0, 0), {}), "results 1: there is no episode in it"),
        (Results([], long_table(A).episodes, {}), "does not say which grading was used"),
        (long_table(A, pools={}), "no content hash of pool m/x"),
    ],
)
def test_damaged_results_are_refused(results: Results, says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        load_results(results)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("no table")
    plain = tmp_path / "plain.parquet"
    pq.write_table(long_table(A).episodes, plain)
    listed = tmp_path / "list.parquet"
    pq.write_table(long_table(A).episodes.replace_schema_metadata({"tts_gym": json.dumps([1])}), listed)
    for path, says in (
        (tmp_path / "none.parquet", r"none\.parquet: no such file"),
        (text, r"a\.txt: not a readable Parquet file"),
        (plain, r"plain\.parquet: no provenance in its metadata key 'tts_gym'"),
        (listed, r"list\.parquet: its provenance does not say"),
    ):
        with pytest.raises(ResultsError, match=says):
            load_results(path)
    with pytest.raises(ResultsError, match="no results were given"):
        load_results([])


def test_unknown_names_are_refused() -> None:
    results = long_table({**A, **B})
    for asked, says in (
        ({"pools": ["m/z"]}, "no pool 'm/z'; did you mean m/x"),
        ({"contestants": ["c"]}, "no contestant 'c'; there are a, b"),
        ({"betas": [0.7]}, "no beta '0.7'"),
        ({"pools": []}, "no episode is left"),
        ({"benchmarks": {"m/z": "x"}}, "benchmarks names the pool 'm/z'"),
    ):
        with pytest.raises(UsageError, match=says):
            load_sweep(results, **asked)  # type: ignore[arg-type]
    sweep = load_sweep(results)
    with pytest.raises(UsageError, match=r"a was not evaluated at beta 1; its betas are 0\.5"):
        sweep.index("a", 1.0)
    with pytest.raises(UsageError, match="no contestant 'z'; there are a, b"):
        sweep.indices("z")


def test_a_benchmark_is_the_last_part_of_a_pools_name_unless_said_otherwise() -> None:
    keys = [("m/x", "a", 0.5), ("n/x", "a", 0.5), ("n/y", "a", 0.5)]
    results = long_table(dict.fromkeys(keys, (RIGHT, TOKENS)))
    assert load_sweep(results).benchmarks == ("x", "x", "y")
    assert load_sweep(results, benchmarks={"n/x": "other"}).benchmarks == ("x", "other", "y")
    less = long_table({("n/x", "a", 0.5): (RIGHT[:2], TOKENS[:2])})
    with pytest.raises(UsageError, match=r"pools m/x and n/x count as one benchmark, 'x', but .* 3 and 2 of them"):
        load_sweep([long_table(A), less])
    assert load_sweep([long_table(A), less], benchmarks={"n/x": "other"}).benchmarks == ("x", "other")


def test_pools_are_pooled_by_model_by_benchmark_and_all_together() -> None:
    names = ["m/x", "m/y", "n/x", "n/y"]
    sweep = load_sweep(long_table({(name, "a", 0.5): (RIGHT, TOKENS) for name in names}))
    assert {scope.name: scope.pools for scope in scopes(sweep)} == {
        **{name: (name,) for name in names},
        "m/*": ("m/x", "m/y"),
        "n/*": ("n/x", "n/y"),
        "*/x": ("m/x", "n/x"),
        "*/y": ("m/y", "n/y"),
        "*": tuple(names),
    }
    assert [scope.name for scope in scopes(load_sweep(long_table(A)))] == ["m/x"]


def test_benchmarks_are_known_by_their_text() -> None:
    spec = SyntheticSpec(questions=3, branches=4)
    one, two = generate(spec, seed=1, name="m/x"), generate(spec, seed=2, name="n/renamed")
    assert one.questions == two.questions  # the generator numbers its questions
    assert benchmarks_by_text([one, two]) == {"m/x": "x", "n/renamed": "x"}
    other = replace(two, name="o/x", questions=("what?", "when?", "why?"))
    assert benchmarks_by_text([one, other, two]) == {"m/x": "x", "n/renamed": "x", "o/x": "o/x"}
    more = generate(SyntheticSpec(questions=4, branches=4), seed=1, name="o/x")
    with pytest.raises(UsageError, match="pools m/x and o/x share some questions but not all in the same order"):
        benchmarks_by_text([one, more])
