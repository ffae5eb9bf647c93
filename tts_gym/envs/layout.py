"""Where things lie in memory: the observation's columns, the actions, and the slots of the compiled environment.

The observation's layout decides the speed of a step. What a move changes of one branch lies side by side (16
float32, one cache line); the two columns that a changed vote rewrites for every branch lie together as well.
"""

from __future__ import annotations

# --- actions ---------------------------------------------------------------------------------------

BRANCH, ANSWER = 0, 1
# Atomic: then W each of CONTINUE, PROBE, PRUNE and, where asked for, ANSWER with branch i's latest answer.
FIRST = 2
# Rounds.
OPEN_2, OPEN_4, OPEN_8, ADVANCE_ALL, ADVANCE_AGREEING, PRUNE_DISSENTERS, FINISH_NEAREST, FINISH_ALL = range(2, 10)
ROUND_ACTIONS = (
    "OPEN_1", "ANSWER", "OPEN_2", "OPEN_4", "OPEN_8", "ADVANCE_ALL", "ADVANCE_AGREEING", "PRUNE_DISSENTERS",
    "FINISH_NEAREST", "FINISH_ALL",
)  # fmt: skip
AGGREGATIONS = ("majority", "finished")

# --- observation "features" ------------------------------------------------------------------------

# fmt: off
GLOBAL_FEATURES = (
    # what any move may change
    "opened", "live", "finished", "pruned", "cost", "budget_left_share", "budget_left", "probes", "steps",
    "cost_since_leader", "agreeing_share", "unread_share", "deepest", "mean_depth", "stubborn_share",
    "tokens_per_branch",
    # what readings and prunings change
    "votes", "leader_share", "runner_up_share", "margin", "confidence", "confidence_average", "confidence_trend",
    "entropy", "distinct_answers", "leader_age", "leader_changes", "finished_votes", "leader_share_of_finished",
    "unparsed_share", "stable_share", "answers_seen",
)
BRANCH_FEATURES = (
    "opened", "live", "finished", "pruned",
    "depth", "read_here", "has_answer", "unparsed",
    "streak", "changes", "readings", "dissent",
    "tokens", "unread_intervals", "answer", "position",
)
(
    G_OPENED, G_LIVE, G_FINISHED, G_PRUNED, G_COST, G_BUDGET_SHARE, G_BUDGET, G_PROBES, G_STEPS, G_COST_SINCE,
    G_AGREEING, G_UNREAD, G_DEEPEST, G_MEAN_DEPTH, G_STUBBORN, G_PER_BRANCH,
    G_VOTES, G_LEADER, G_RUNNER_UP, G_MARGIN, G_CONFIDENCE, G_AVERAGE, G_TREND, G_ENTROPY, G_DISTINCT, G_LEADER_AGE,
    G_LEADER_CHANGES, G_FINISHED_VOTES, G_FINISHED_LEADER, G_UNPARSED, G_STABLE, G_SEEN, GLOBALS,
) = range(33)
(
    B_OPENED, B_LIVE, B_FINISHED, B_PRUNED, B_DEPTH, B_READ_HERE, B_HAS_ANSWER, B_UNPARSED, B_STREAK, B_CHANGES,
    B_READINGS, B_DISSENT, B_TOKENS, B_UNREAD, B_ANSWER, B_POSITION, PER_BRANCH,
) = range(17)
# fmt: on


def feature_count(width: int) -> int:
    """Length of the ``features`` observation: global ones, then for each branch 2 about its vote, then 16 each."""
    return GLOBALS + (2 + PER_BRANCH) * width


# --- observation "grid" ----------------------------------------------------------------------------

NOTHING, UNREAD, ENDED, PRUNED, NO_ANSWER, FIRST_ANSWER = range(6)

# --- one batch of environments: slots of int64 -----------------------------------------------------

(
    # shapes and settings
    COUNT, WIDTH, SLOTS, ENGINE_AT, COUNTS_AT, ROUNDS, AUTO_PROBE, ANSWER_WITH, GRID, COLUMNS, OBSERVATION_SIZE,
    ACTIONS_PER_ENV, AGGREGATION, PATIENCE, MAX_STEPS, AUTORESET, STRICT,
    # addresses
    BLOCKS, OBSERVATIONS, MASKS, POOLS, POOL_COUNT, POOL_EDGES, CONFIDENCE, CONFIDENCE_ROW, CLOGC, RANDOM, ACTIONS,
    CHOSEN, REWARDS, TERMINATED, TRUNCATED, COST, TOKENS, PROBED, ILLEGAL, COST_WEIGHTS, FINAL_OBSERVATIONS,
    FINAL_MASKS, FINAL, CORRECT, REPLAYED, TABLE_SLOTS,
) = range(43)  # fmt: skip

# Autoreset modes.
NEXT_STEP, SAME_STEP, DISABLED = range(3)

# What an episode ends with: one int64[K] each, 0 where none ended in the last step. F_COST is a float64.
(
    F_POOL, F_QUESTION, F_ORDER, F_BRANCHES, F_SEQUENTIAL, F_PEAK_WIDTH, F_COST, F_TOKENS, F_PROBES, F_ILLEGAL,
    FINAL_SLOTS,
) = range(11)  # fmt: skip

# What is being replayed: one int64[K] each.
R_POOL, R_QUESTION, R_ORDER, REPLAYED_SLOTS = range(4)

# One pool: what its episodes are made of.
(
    P_ANSWERS, P_INTERVALS, P_TOKENS, P_BRANCHES, P_COLUMNS, P_DELTA, P_QUESTIONS, P_QUESTION_COUNT, P_ORDERS,
    P_ORDER_SEEDS, P_ORDER_COUNT, P_CORRECT, P_VOCABULARY, POOL_SLOTS,
) = range(14)  # fmt: skip

# One environment: two cache lines of int32 (and float64, where said), its votes (int16[W]), its engine block, and per
# answer number two int32: the votes for it, and those of them by finished branches.
E_AVERAGE, E_CLOGC, E_LEADER_SINCE = range(3)  # float64
E_OBSERVATION, E_MASK = 3, 4  # int64, addresses
(
    E_ENDED, E_STEPS, E_VOTES, E_FINISHED, E_PRUNED, E_FINISHED_VOTES, E_LEADER, E_FIRST, E_SECOND, E_LEADER_AGE,
    E_LEADER_CHANGES, E_UNREAD, E_UNPARSED, E_READ, E_DISTINCT, E_DEEPEST, E_LIVE_DEPTHS, E_STABLE, E_STUBBORN,
    E_READINGS, E_SHOW,
) = range(10, 31)  # fmt: skip
ENV_SLOTS = 16

# What of the votes the observation has still to show.
SHOW_STANDING, SHOW_VOTES = 1, 2

# int16 in the notes of each branch: readings in a row with one answer, changes, readings, readings in a row against
# the leader.
X_STREAK, X_CHANGES, X_READINGS, X_DISSENT = range(4)
