"""When each method stops and what it answers, by hand and against exact arithmetic (spec 8.1)."""

from __future__ import annotations

from fractions import Fraction
from math import comb, exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from controllers.playing import Played, function, knobs_of, play, recording_of
from mpmath import mp, mpf
from numpy.typing import NDArray

from tts_gym.programs.runner import Limits, reference_episode

A, B, C, D = "ABCD"
COUNTS = [(first, second) for first in range(65) for second in range(min(first, 64 - first) + 1)]


class TestAdaptiveConsistency:
    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ("AAAAA", (A, 4)),  # (4, 1 phantom): 0.72 of a bit
            ("AAABAA", (A, 5)),  # (3, 1) is 0.81, (4, 1) is 0.72
            ("AABAAAAA", (A, 5)),
            ("AABBAAAAAAA", (A, 10)),  # (6, 2) is 0.81, (7, 2) 0.764, (8, 2) 0.72
            ("ABCDABCD", (A, 8)),  # never concentrated: all there are; a tie goes to the first
            ("-A-AAA", (A, 6)),  # null answers are no votes
            ("--", ("-", 2)),
            ("A", (A, 1)),
        ],
    )
    def test_entropy(self, answers: str, expected: tuple[str, int]) -> None:
        assert play("asc_entropy", answers)[:2] == expected

    @pytest.mark.parametrize(
        ("votes", "spread"),
        [
            ([0, 0], -(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3)) / log(2)),  # a phantom vote for another answer
            ([5], 1.0),
            ([0, 1], 1.0),
            ([0, 0, 0, 1], 0.8112781244591328),
            ([0, 1, 1, 2, 2, 2], -(log(1 / 6) / 6 + log(1 / 3) / 3 + log(1 / 2) / 2) / log(3)),
        ],
    )
    def test_spread(self, votes: list[int], spread: float) -> None:
        assert function("spread", "asc_entropy")(votes) == pytest.approx(spread, abs=1e-15)

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ("AAB", (A, 2)),  # never at one sample
            ("ABAAAB", (A, 5)),  # 4 of 5 is 0.8 exactly
            ("ABBAAAAAAAAA", (A, 10)),  # 8 of 10
            ("ABABAB", (A, 6)),
            ("-A-AA", (A, 4)),  # two votes, both for A
            ("---", ("-", 3)),
        ],
    )
    def test_majority(self, answers: str, expected: tuple[str, int]) -> None:
        assert play("asc_majority", answers)[:2] == expected

    def test_samples_wait_for_each_other(self) -> None:
        for name in ("asc_entropy", "asc_majority", "bayes_l3"):
            played = play(name, ["AAA", "A", "BB", "AA", "A"])
            assert played.sequential_tokens == played.tokens

    def test_max_samples(self) -> None:
        for name in ("asc_entropy", "asc_majority", "bayes_l3", "consol_sprt", "consol_msprt", "consol_pvalue"):
            assert play(f"{name}:max_samples=4", "ABABABABAB")[:2] == (A, 4)


class TestDoublingBatches:
    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ("AABBB", (A, 2, 100)),
            ("ABAABBB", (A, 4, 200)),  # half, then 3 of 4
            ("ABABBBBBBB", (B, 8, 300)),  # 6 of 8 after batches of 2, 2 and 4
            ("ABABABABABAB", (A, 12, 400)),  # the fourth batch, of 8, finds 4 branches left
            ("--AA", (A, 4, 200)),
        ],
    )
    def test_batches(self, answers: str, expected: tuple[str, int, int]) -> None:
        played = play("doubling_batches", answers)
        assert (played.answer, played.branches, played.sequential_tokens) == expected

    def test_the_last_batch_is_cut_to_the_budget(self) -> None:
        assert play("doubling_batches:budget=7", "ABABABABABAB") == Played(A, 7, 700, 300)


class TestConSol:
    @pytest.mark.parametrize("name", ["consol_sprt", "consol_msprt"])
    def test_the_published_tests_stop_three_votes_ahead(self, name: str) -> None:
        decided, knobs = function("decided", name), knobs_of(name)
        assert [decided(first, second, knobs) for first, second in COUNTS] == [
            first - second >= 3 for first, second in COUNTS
        ]

    def test_sprt_bounds(self) -> None:
        """ln(0.050024 / 0.05) = 0.00048 is passed by 3 ln(1.0002) = 0.0006, not by 2; chance wins at 632 to 632."""
        decided, knobs = function("decided", "consol_sprt"), knobs_of("consol_sprt")
        assert 2 * log(1.0002) < log(0.050024 / 0.05) < 3 * log(1.0002)
        assert [decided(votes, votes, knobs) for votes in (631, 632)] == [False, True]

    def test_msprt_gives_chance_its_due_after_254_votes(self) -> None:
        decided, knobs = function("decided", "consol_msprt"), knobs_of("consol_msprt")
        assert [decided(votes, votes, knobs) for votes in (126, 127)] == [False, True]

    @pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 0), (2, 2), (10, 3), (64, 64), (128, 100)])
    def test_mixture_ratio(self, first: int, second: int) -> None:
        """Against the integral over the truncated prior, at thirty digits."""
        a, votes = 10**6, first + second
        with mp.workdps(30):
            log_beta = 2 * mp.loggamma(a) - mp.loggamma(2 * a)

            def density(p: Any) -> Any:
                return mp.exp((a - 1 + first) * mp.log(p) + (a - 1 + second) * mp.log(1 - p) - log_beta)

            points = [mpf(1) / 2 + mpf(k) / 8000 for k in range(33)]  # eleven standard deviations
            expected = float(mp.quad(density, points) / (mpf(1) / 2) * mpf(2) ** votes)
        assert function("mixture_ratio", "consol_msprt")(first, second) == pytest.approx(expected, rel=1e-12)

    def test_pvalue_is_the_binomial_test(self) -> None:
        decided, knobs = function("decided", "consol_pvalue"), knobs_of("consol_pvalue")
        for first, second in COUNTS:
            total = first + second
            tail = Fraction(sum(comb(total, heads) for heads in range(first, total + 1)), 2**total)
            assert decided(first, second, knobs) == (tail <= Fraction(1, 20)), (first, second)
        assert [c for c in COUNTS if decided(*c, knobs) and not decided(c[0] - 1, c[1], knobs)][:4] == [
            (5, 0),  # 1/32
            (7, 1),  # 9/256
            (9, 2),  # 67/2048
            (10, 3),  # 378/8192
        ]

    @pytest.mark.parametrize(
        ("name", "answers", "expected"),
        [
            # rounds are what is waited for: 100 tokens each
            ("consol_sprt", "AAAAA", (A, 3, 100)),
            ("consol_sprt", "AABAAA", (A, 5, 200)),  # 2 to 1 wants two more
            ("consol_sprt", "ABCAAA", (A, 6, 200)),  # 1 to 1 wants three more
            ("consol_sprt", "-AAABB", (A, 4, 200)),
            ("consol_sprt", "ABBAB", (B, 5, 200)),  # two more after A, B, B; none is left then
            ("consol_sprt", "---", ("-", 3, 100)),
            ("consol_pvalue", "AAAAAAAA", (A, 5, 100)),
            ("consol_pvalue", "AAAABAAAB", (A, 8, 200)),  # 4 to 1 wants 7 to 1
            ("consol_pvalue:alpha=0.5", "AB", (A, 1, 100)),
        ],
    )
    def test_rounds(self, name: str, answers: str, expected: tuple[str, int, int]) -> None:
        played = play(name, answers)
        assert (played.answer, played.branches, played.sequential_tokens) == expected
        if name == "consol_sprt":
            assert play("consol_msprt", answers) == played


class TestBayesL3:
    def with_prior(self, monkeypatch: pytest.MonkeyPatch, rows: list[list[int]], branches: int = 100) -> Any:
        posterior = function("posterior", "bayes_l3")
        monkeypatch.setitem(posterior.__globals__, "PRIOR", np.array(rows))
        monkeypatch.setitem(posterior.__globals__, "BRANCHES", branches)
        return posterior

    def test_two_shapes_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of the questions have one answer, half two that are equally likely."""
        posterior = self.with_prior(monkeypatch, [[1, 100, 0], [1, 50, 50]])
        for votes in range(1, 20):
            expected = (1 + 0.5**votes) / (1 + 2 * 0.5**votes)
            assert posterior(votes, 0, votes) == pytest.approx(expected, rel=1e-14)
        assert posterior(3, 1, 4) == pytest.approx(0.5)  # the first shape is out

    def test_answers_that_nobody_shares(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of all votes are for one answer, each other vote for one of its own."""
        posterior = self.with_prior(monkeypatch, [[1, 50, 0]])
        assert posterior(1, 0, 1) == pytest.approx(0.5)
        assert posterior(2, 0, 2) == posterior(2, 1, 5) == 1.0  # nothing but the mode comes twice

    def test_against_all_ways_to_share_the_votes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [[2, 50, 30, 20, 0], [1, 40, 25, 25, 10], [3, 70, 10, 10, 10]]
        posterior = self.with_prior(monkeypatch, rows)
        for total in range(1, 9):
            exact = _posteriors(rows, total)
            for (first, second), expected in exact.items():
                if first > second:
                    assert posterior(first, second, total) == pytest.approx(float(expected), rel=1e-13)

    def test_the_papers_example(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Known prior, delta 0.01: 18.07 samples and the mode in 99.2% of 10,000 trials (L = 2: 22.43, ASC: 44.07)."""
        prior = [50, 20, 10, 10, 5, 3, 1, 1]
        posterior = self.with_prior(monkeypatch, [[1, *prior]])
        known: dict[tuple[int, int, int], bool] = {}
        generator = np.random.default_rng(0)
        samples, right = [], []
        for _ in range(1000):
            counts = [0] * 8
            for answer in generator.choice(8, 1000, p=np.array(prior) / 100):
                counts[answer] += 1
                second, first = sorted(counts)[-2:]
                state = (first, second, sum(counts))
                if state not in known:
                    known[state] = first > second and posterior(*state) >= 0.99
                if known[state]:
                    break
            samples.append(sum(counts))
            right.append(counts.index(max(counts)) == 0)
        error = sqrt(np.var(samples) / 1000 + np.var(samples) / 10000)
        assert abs(np.mean(samples) - 18.07) < 3 * error < 1.2
        assert abs(np.mean(right) - 0.992) < 0.007

    def test_stops(self) -> None:
        """The shipped prior, delta 0.05: two equal answers are enough, 3 to 1 is not, and 4 to 1 is."""
        assert play("bayes_l3", "AAA")[:2] == (A, 2)
        assert play("bayes_l3", "ABAAAA")[:2] == (A, 5)
        assert play("bayes_l3:delta=0.01", "AAAA")[:2] == (A, 3)
        assert play("bayes_l3", "-A-AA")[:2] == (A, 4)
        assert play("bayes_l3", "ABCD")[:2] == (A, 4)
        assert play("bayes_l3", "--")[:2] == ("-", 2)


def _posteriors(rows: list[list[int]], total: int) -> dict[tuple[int, int], Fraction]:
    """By (leader's votes, runner-up's votes): the probability that the leader is the first answer of its row."""
    mode: dict[tuple[int, int], Fraction] = {}
    every: dict[tuple[int, int], Fraction] = {}
    for weight, *percents in rows:
        for counts in _compositions(total, len(percents)):
            second, first = sorted(counts)[-2:]
            probability = Fraction(weight)
            left = total
            for percent, count in zip(percents, counts, strict=True):
                probability *= comb(left, count) * Fraction(percent, 100) ** count
                left -= count
            every[first, second] = every.get((first, second), Fraction(0)) + probability
            if counts[0] == first:
                mode[first, second] = mode.get((first, second), Fraction(0)) + probability
    return {state: mode.get(state, Fraction(0)) / every[state] for state in every}


def _compositions(total: int, parts: int) -> list[list[int]]:
    if parts == 1:
        return [[total]]
    return [[head, *tail] for head in range(total + 1) for tail in _compositions(total - head, parts - 1)]


class TestCompletionOrder:
    def test_short_m_at_k_counts_rounds(self) -> None:
        # AA ends in the third round and BBB in the fourth, when the long branch has had four intervals
        assert play("short_m_at_k:m=2,k=3", ["CCCCCC", "AA", "BBB"]) == Played(A, 3, 900, 400)
        assert play("short_m_at_k:m=1,k=3", ["CCCCCC", "AA", "BBB"]) == Played(A, 3, 800, 300)
        assert play("short_m_at_k:m=9,k=3", ["CCCCCC", "AA", "BBB"]) == Played(A, 3, 1100, 600)
        assert play("short_m_at_k:m=1,k=1", ["CCCCCC", "AA", "BBB"]) == Played(C, 1, 600, 600)

    def test_all_that_ended_in_the_round_vote(self) -> None:
        branches, tokens = ["AA", "BB", "BB", "CCC"], [200, 210, 190, 300]
        assert play("short_m_at_k:m=1,k=4", branches, tokens).answer == B
        assert play("first_finish:n=4", branches, tokens) == Played(B, 4, 900, 300)
        assert play("first_finish:n=4", branches, [180, 210, 190, 300]).answer == A
        assert play("first_finish:n=4", branches, [190, 210, 190, 300]).answer == A  # a tie: the one opened first
        assert play("first_finish:n=1", branches, tokens) == Played(A, 1, 200, 200)

    def test_first_finish_of_a_null_answer_is_none(self) -> None:
        assert play("first_finish", ["AAA", "--"]).answer == "-"

    def test_beta_on_completion(self) -> None:
        # four equal answers are sure (0.97); the long branches had three intervals by then
        assert play("beta_on_completion", ["BBBBBB", "AA", "AA", "AA", "AA", "BBBBBB"]) == Played(A, 6, 1400, 300)
        # three are not (0.94): the rest is waited for
        assert play("beta_on_completion", ["BBBBBB", "AA", "AA", "AA", "BBBBBB"]) == Played(A, 5, 1800, 600)
        # within a round branches vote in opening order: the fourth A decides before any B is counted
        assert play("beta_on_completion", "AAAABBBBBBBBB").answer == A
        assert play("beta_on_completion:n=2", "AAAA") == Played(A, 2, 200, 100)

    def test_depth_cap(self) -> None:
        branches = ["ABC", "BBCCCCC", "AAA"]
        assert play("depth_capped_sc:cap=1", branches) == Played(A, 3, 300, 100)
        assert play("depth_capped_sc:cap=2", branches) == Played(B, 3, 600, 200)
        assert play("depth_capped_sc:cap=4", branches) == Played(C, 3, 1000, 400)
        assert play("depth_capped_sc:cap=80", branches) == Played(C, 3, 1300, 700)
        assert play("depth_capped_sc:n=1,cap=2", branches) == Played(B, 1, 200, 200)


class TestBranchRules:
    def test_dynasor_wants_its_window_and_an_answer(self) -> None:
        assert play("dynasor_grid:n=1,window=3", ["AABBBCCC"]) == Played(B, 1, 500, 500)
        assert play("dynasor_grid:n=1,window=2", ["AABBBCCC"]) == Played(A, 1, 200, 200)
        assert play("dynasor_grid:n=1,window=3", ["A---BBBCC"]) == Played(B, 1, 700, 700)
        assert play("dynasor_grid:n=1,window=9", ["AABBBCCC"]) == Played(C, 1, 800, 800)
        assert play("dynasor_grid:n=1,window=1", ["-AB"]) == Played(A, 1, 200, 200)

    def test_dynasor_votes(self) -> None:
        assert play("dynasor_grid:n=3,window=2", ["AABB", "BBAA", "CBBA"]) == Played(B, 3, 700, 300)

    def test_es_cot_by_hand(self) -> None:
        es_cot = "es_cot_grid:n=1"
        # the first run has none to be longer than
        assert play(es_cot, ["A" * 30]) == Played(A, 1, 3000, 3000)
        # a run of 11 after one of 1: nothing earlier to test against
        assert play(es_cot, ["B" + "A" * 30]) == Played(A, 1, 1200, 1200)
        assert play(f"{es_cot},jump=3", ["BBAAAAAAA"]) == Played(A, 1, 700, 700)
        # earlier jumps 1 and 1: any larger one stands out
        assert play(es_cot, ["ABBCCC" + "D" * 30]) == Played(D, 1, 1900, 1900)
        # earlier jumps 8 and -8: mean 0, standard error 8, and t has to pass 6.31 with one degree of freedom
        assert play(es_cot, ["A" + "B" * 9 + "A" + "C" * 70]) == Played(C, 1, 6300, 6300)
        assert play(f"{es_cot},p=0.25", ["A" + "B" * 9 + "A" + "C" * 70]) == Played(C, 1, 2200, 2200)  # t 1.25, p 0.215

    def test_es_cot_votes(self) -> None:
        assert play("es_cot_grid:n=3,jump=2", ["ABBBCC", "ABBBDD", "CCCCCC"]) == Played(B, 3, 1400, 600)

    @pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 29, 60])
    def test_students_tail(self, freedom: int) -> None:
        tail = function("upper_tail", "es_cot_grid")
        for t in (-3.0, 0.0, 0.1, 1.0, 2.5, 6.3137515, 40.0):
            both = mp.betainc(mpf(freedom) / 2, mpf(1) / 2, 0, freedom / (freedom + mpf(t) ** 2), regularized=True)
            expected = float(both / 2 if t >= 0 else 1 - both / 2)
            assert tail(t, freedom) == pytest.approx(expected, abs=1e-14)

    def test_probe_st_bon(self) -> None:
        branches = ["AACC", "ABBD", "CBBE"]
        # at depth 2 two say B; the first of them goes on and ends with D
        assert play("probe_st_bon:n=3,depth=2", branches) == Played(D, 3, 800, 400)
        assert play("probe_st_bon:n=3,depth=1", branches) == Played(C, 3, 600, 400)
        assert play("probe_st_bon:n=1,depth=3", branches) == Played(C, 1, 400, 400)
        # a branch that ended before votes with its final answer, and is kept as it is
        assert play("probe_st_bon:n=3,depth=4", ["B", "ABBDD", "CBBBE"]) == Played(B, 3, 900, 400)
        # nobody has an answer yet: the first branch goes on
        assert play("probe_st_bon:n=2,depth=1", ["-A", "-B"]) == Played(A, 2, 300, 200)


class TestMars:
    @pytest.mark.parametrize(
        ("votes", "risk", "gamma", "safe"),
        [
            ([0, 0, 1], [0, 0, 0], 1.0, True),
            ([0, 1], [0, 0], 0.5, False),  # no margin
            ([0, 0, 0, 0, 0, 1], [0.25] * 5 + [0.5], 1.0, True),  # loses 2.5 - 0.5 of 4 to B; 3 of 5 to anyone else
            ([0, 0, 0, 0, 0, 1], [0.5] * 6, 1.0, False),  # 5 - 0.5 of 4
            ([0, 0, 0, 0, 0, 1], [0.5] * 6, 0.8, True),  # 4 - 0.5 of 4, and 4.4 of 5
            ([0] * 4, [0.5] * 4, 1.0, False),  # an answer nobody gave could take 4 of 4
            ([0] * 4, [0.5] * 4, 0.9, True),
            ([0, 0, 0, 1, 2], [0.0, 0.0, 0.0, 0.0, 1.0], 1.0, True),  # a third voter costs 1 of 2, and of 3
            ([0, 0, 1, 2], [0.0, 0.0, 0.0, 1.0], 1.0, False),
            ([-1, -1], [0, 0], 0.5, False),
            ([0, -1, -1], [0.0, 0.4, 0.4], 1.0, True),  # who has no answer yet may give another one: 0.8 of 1
            ([0, -1, -1], [0.0, 0.6, 0.6], 1.0, False),
        ],
    )
    def test_certificate(self, votes: list[int], risk: list[float], gamma: float, safe: bool) -> None:
        assert function("certified", "mars_replay")(votes, risk, gamma) is safe

    @pytest.mark.parametrize(
        ("risk", "branches", "gamma"),
        [
            (0.65, 100, 0.9),  # all say B and end with A: 100 > gamma * 130 up to 0.7, so 0.8; and 1 / 10
            (0.65, 16, 1.0),  # 0.8 + 1 / 4
            (0.01, 100, 1.0),  # wrong even with gamma 0.9
            (1.01, 100, 0.6),  # never certified: 0.5
        ],
    )
    def test_gamma(self, risk: float, branches: int, gamma: float) -> None:
        calibrated, times = function("calibrated", "mars_replay"), np.full(branches, 4.0)
        found = calibrated([0] * branches, list(range(branches)), [1] * branches, times, [risk] * branches)
        assert found == pytest.approx(gamma)
        assert calibrated([0] * branches, [], [], times[:0], []) == pytest.approx(0.5 + 1 / sqrt(branches))

    def test_fit_is_the_penalised_optimum(self) -> None:
        generator = np.random.default_rng(1)
        readings = generator.normal(size=(120, 4))
        readings[:, 0] = 1
        truth = 1 / (1 + np.exp(-readings @ np.array([-1.0, 0.5, 1.5, -1.0])))
        changed = generator.random(120) < truth
        found = function("fit", "mars_replay")(readings, changed.tolist())
        assert found == pytest.approx(_newton(readings, changed), abs=0.01)

    def test_a_reading_like_the_others_has_no_scale(self) -> None:
        center, scale = function("standard", "mars_replay")(np.array([[1.0, 4, 0, 1], [1, 8, 0, 3]]))
        assert (center.tolist(), scale.tolist()) == ([0, 6, 0, 2], [1, 2, 1, 1])

    def test_features(self) -> None:
        """Position, flips and streak at each reading; one unread answer does not count."""
        episode = reference_episode(recording_of(["ABBA", "AACCCD"]), 0, 0, Limits())
        state, read_all = np.zeros((2, 4)), function("read_all", "mars_replay")
        episode.branch(), episode.branch()
        seen = []
        for at in (1, 2, 4, 5):
            read_all(episode, at, state)
            seen.append(state.tolist())
        ended = [1, 4, 2, 1]
        assert [one for one, _ in seen] == [[1, 1, 0, 1], [1, 2, 1, 1], ended, ended]
        assert [other for _, other in seen] == [[1, 1, 0, 1], [1, 2, 0, 2], [1, 4, 1, 1], [1, 5, 1, 2]]

    def test_episode(self) -> None:
        # sixteen run to their ends and never change; so the others are trusted at their first reading
        assert play("mars_replay:n=64", ["A" * 8] * 64) == Played(A, 64, 16 * 800 + 48 * 400, 800 + 400)
        # sixteen say B until they end with A; so the others are not
        late = ["B" * 12 + "A"] * 64
        assert play("mars_replay:n=64", late) == Played(A, 64, 64 * 1300, 2 * 1300)
        # nothing but warm-up is self-consistency
        assert play("mars_replay:n=16", ["A" * 3] * 9 + ["B" * 9] * 7) == Played(A, 16, 9 * 300 + 7 * 900, 900)
        # branches that end before the first reading
        assert play("mars_replay:n=6,warm_up=4", ["A", "B", "AA", "B", "A", "C"]) == Played(A, 6, 700, 300)


def _newton(readings: NDArray[np.float64], changed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same optimum by Newton's method."""
    weights = np.zeros(readings.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-readings @ weights))
        slope = readings.T @ (chance - changed) + weights
        curvature = (readings * (chance * (1 - chance))[:, None]).T @ readings + np.eye(len(weights))
        weights -= np.linalg.solve(curvature, slope)
    return weights


def test_chance_is_logistic() -> None:
    chance = function("chance", "mars_replay")
    assert chance(np.array([1.0, 2, 0, 1]), np.array([0.5, -1, 7, 0.25])) == pytest.approx(1 / (1 + exp(1.25)))
