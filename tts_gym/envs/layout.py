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
    "opened", "live", "finished", "pruned",
    "cost", "budget_left_share", "budget_left", "probes",
    "steps", "votes", "leader_share", "runner_up_share",
    "margin", "confidence", "confidence_average", "confidence_trend",
    "entropy", "distinct_answers", "leader_age", "leader_changes",
    "cost_since_leader", "finished_votes", "leader_share_of_finished", "agreeing_share",
    "unread_share", "unparsed_share", "stable_share", "deepest",
    "mean_depth", "answers_seen", "stubborn_share", "tokens_per_branch",
)
BRANCH_FEATURES = (
    "opened", "live", "finished", "pruned",
    "depth", "read_here", "has_answer", "unparsed",
    "streak", "changes", "readings", "dissent",
    "tokens", "unread_intervals", "answer", "position",
)
(
    G_OPENED, G_LIVE, G_FINISHED, G_PRUNED, G_COST, G_BUDGET_SHARE, G_BUDGET, G_PROBES, G_STEPS, G_VOTES, G_LEADER,
    G_RUNNER_UP, G_MARGIN, G_CONFIDENCE, G_AVERAGE, G_TREND, G_ENTROPY, G_DISTINCT, G_LEADER_AGE, G_LEADER_CHANGES,
    G_COST_SINCE, G_FINISHED_VOTES, G_FINISHED_LEADER, G_AGREEING, G_UNREAD, G_UNPARSED, G_STABLE, G_DEEPEST,
    G_MEAN_DEPTH, G_SEEN, G_STUBBORN, G_PER_BRANCH, GLOBALS,
) = range(33)
(
    B_OPENED, B_LIVE, B_FINISHED, B_PRUNED, B_DEPTH, B_READ_HERE, B_HAS_ANSWER, B_UNPARSED, B_STREAK, B_CHANGES,
    B_READINGS, B_DISSENT, B_TOKENS, B_UNREAD, B_ANSWER, B_POSITION, PER_BRANCH,
) = range(17)
# fmt: on


def feature_count(width: int) -> int:
    """Length of the ``features`` observation: global, then W shares, W agreements, then 16 of each branch."""
    return GLOBALS + (2 + PER_BRANCH) * width


# --- observation "grid" ----------------------------------------------------------------------------

NOTHING, UNREAD, ENDED, PRUNED, NO_ANSWER, FIRST_ANSWER = range(6)

# --- one batch of environments: slots of int64 -----------------------------------------------------

(
    # shapes and settings
    COUNT, WIDTH, VOCABULARY, SLOTS, ROUNDS, AUTO_PROBE, ANSWER_WITH, GRID, COLUMNS, OBSERVATION_SIZE, ACTIONS_PER_ENV,
    AGGREGATION, PATIENCE, MAX_STEPS, AUTORESET,
    # addresses
    BLOCKS, POOLS, POOL_COUNT, POOL_EDGES, CONFIDENCE, CLOGC, RANDOM,
    ACTIONS, CHOSEN, REWARDS, TERMINATED, TRUNCATED, COST, TOKENS, PROBED, ILLEGAL, COST_WEIGHTS,
    FINAL_OBSERVATIONS, FINAL_MASKS, FINAL, TABLE_SLOTS,
) = range(36)  # fmt: skip

# Autoreset modes.
NEXT_STEP, SAME_STEP, DISABLED = range(3)

# What an episode ends with, int64 per environment.
(
    F_CORRECT, F_POOL, F_QUESTION, F_ORDER, F_CODE, F_BRANCHES, F_SEQUENTIAL, F_PEAK_WIDTH, F_COST, F_TOKENS, F_PROBES,
    F_ILLEGAL, F_OPENED, FINAL_SLOTS,
) = range(14)  # fmt: skip

# One pool: what its episodes are made of.
(
    P_ANSWERS, P_INTERVALS, P_TOKENS, P_BRANCHES, P_COLUMNS, P_DELTA, P_QUESTIONS, P_QUESTION_COUNT, P_ORDERS,
    P_ORDER_SEEDS, P_ORDER_COUNT, P_CORRECT, P_VOCABULARY, POOL_SLOTS,
) = range(14)  # fmt: skip

# One environment, behind its engine block.
(
    E_OBSERVATION, E_MASK, E_POOL, E_QUESTION, E_ORDER, E_ORDER_AT, E_ENDED,  # these outlive a reset
    E_STEPS, E_VOTES, E_FINISHED, E_PRUNED, E_FINISHED_VOTES, E_LEADER, E_FIRST, E_SECOND, E_CONFIDENCE, E_AVERAGE,
    E_LEADER_AGE, E_LEADER_CHANGES, E_LEADER_SINCE, E_CLOGC, E_UNREAD, E_UNPARSED, E_READ, E_DISTINCT, E_DEEPEST,
    E_LIVE_DEPTHS, E_STABLE, E_STUBBORN, E_READINGS, E_SHOW, ENV_SLOTS,
) = range(32)  # fmt: skip
E_FIRST_CLEARED = E_STEPS

# What of the votes the observation has still to show.
SHOW_STANDING, SHOW_VOTES = 1, 2

# int32 per branch: readings in a row with one answer, changes, readings, readings in a row against the leader.
X_STREAK, X_CHANGES, X_READINGS, X_DISSENT, EXTRAS = range(5)
