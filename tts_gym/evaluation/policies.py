"""Policies as contestants: whatever maps observations and masks to actions, played through the vector environment."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from tts_gym.envs import layout as at
from tts_gym.envs.replay import SETTINGS
from tts_gym.envs.vector import TTSReplayVectorEnv
from tts_gym.errors import PolicyError, UsageError
from tts_gym.files import is_file
from tts_gym.names import nearest
from tts_gym.pools.pool import Pool
from tts_gym.programs.program import Number
from tts_gym.programs.runner import Limits, Outcomes

_KNOWN = (*(name for name in SETTINGS if name != "grading"), "conditioned", "algorithm")

Act: TypeAlias = Callable[[Any, NDArray[np.bool_]], Any]

_AT_ONCE = 512  # episodes in one vector environment
_MODELS = {
    "MaskablePPO": "sb3_contrib",
    "PPO": "stable_baselines3",
    "A2C": "stable_baselines3",
    "DQN": "stable_baselines3",
}


@dataclass(frozen=True, eq=False)
class Policy:
    """A policy and the environment it was made for.

    Attributes:
        name: what it is called in tables.
        begin: given a seed, returns ``act(observations, masks) -> actions``: observations as the vector
            environment gives them (K of them), masks bool[K, A], actions int[K].
        settings: arguments of ``TTSReplay-v0``, e.g. ``{"actions": "rounds", "max_branches": 16}``.
        conditioned: whether it is given beta with the observation (``BetaConditioning``). Otherwise it does not
            depend on beta, is played once, and reported at every beta.
        digest: sha256 of its file, empty if it has none.
    """

    name: str
    begin: Callable[[int], Act]
    settings: Mapping[str, Any] = field(default_factory=dict)
    conditioned: bool = False
    digest: str = ""

    def knobs(self, beta: float) -> dict[str, Number]:
        """What tells its operating points apart."""
        if not 0 <= beta <= 1:
            raise UsageError(f"beta should be between 0 and 1, found {beta:g}")
        return {"beta": beta} if self.conditioned else {}


def policy(spec: str | Path | Policy) -> Policy:
    """A policy from ``WHAT`` or ``WHAT:setting=value,setting=value``.

    WHAT is ``random`` (uniform over the legal actions); a ``.zip`` of a Stable-Baselines3 or sb3-contrib model
    (``algorithm=A2C`` where it cannot be told from the file); a ``.pt`` holding a whole ``torch.nn.Module`` from
    observations to one logit per action; or ``module.name:attribute`` or ``file.py:attribute``, a callable
    ``act(observations, masks)``, a module or a model. Models answer with their most likely legal action. Settings are
    arguments of the environment, and ``conditioned=true`` for a callable that takes beta with the observation.

    A policy is asked about many episodes at once, in several threads, and is not told when one begins: it should
    depend on its arguments only. Observations are as the environment gives them; the statistics of ``VecNormalize``
    are not part of a model's file, so train without it or undo it in a callable.

    All but ``random`` run code of their author: use what you trust.

    Raises:
        UsageError: there is no such file or attribute, or a setting is not ``name=value``.
        PolicyError: it is there but cannot be loaded.
    """
    if isinstance(spec, Policy):
        return spec
    what, settings = _split(str(spec))
    for name in settings:
        if name not in _KNOWN:
            raise UsageError(f"{spec}: unknown setting '{name}'{nearest(name, _KNOWN, 'there are')}")
    conditioned, algorithm = settings.pop("conditioned", None), settings.pop("algorithm", None)
    if what == "random":
        return Policy(str(spec), _random, settings)
    path, _, attribute = what.partition(":")
    if not (attribute or is_file(Path(path))):
        raise UsageError(f"{path}: no such policy file; a policy is random, a .zip, a .pt, or MODULE_OR_FILE.py:NAME")
    loaded = _attribute(path, attribute) if attribute else _from_file(Path(path), algorithm)
    act, space = _as_act(loaded, what)
    if conditioned is None and space is not None:
        conditioned = _takes_beta(space, settings, what)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if is_file(Path(path)) else ""
    return Policy(str(spec), lambda seed: act, settings, bool(conditioned), digest)


def run_policy(
    policy: Policy,
    pool: Pool,
    beta: float,
    *,
    questions: Sequence[int] | NDArray[np.int64],
    orders: Sequence[int],
    limits: Limits | None = None,
    grading: str = "exact",
) -> Outcomes:
    """Play every question under every order.

    Raises:
        PolicyError: it fails, or goes on without answering.
        UsageError: its settings are not the environment's.
    """
    pairs = np.array([(q, s) for q in questions for s in orders], dtype=np.int64).reshape(-1, 2)
    count = min(_AT_ONCE, len(pairs))
    inner = TTSReplayVectorEnv(
        count,
        pool,
        grading=grading,
        autoreset_mode=AutoresetMode.DISABLED,
        copy=False,
        **_limited(policy.settings, limits),
    )
    replay = inner.replay
    # All legal moves of an episode, each preceded by an illegal one: whoever is not done by then never will be.
    longest = 2 * replay.width * (2 * replay.columns + 2)
    env: Any = inner
    if policy.conditioned:
        from tts_gym.wrappers.vector import BetaConditioning

        env = BetaConditioning(inner, beta=beta)
    act = policy.begin(int(pairs[0].sum()))
    columns = np.zeros((len(pairs), 6), dtype=np.int64)

    running, following = np.arange(count), count  # which pair each environment plays, and the next to begin
    observations, infos = env.reset(seed=0, options={"question": pairs[:, 0][:count], "order": pairs[:, 1][:count]})
    alive = np.ones(count, dtype=np.bool_)
    steps = np.zeros(count, dtype=np.int64)
    while alive.any():
        actions = _chosen(policy, act, observations, inner.action_masks())
        actions[~alive] = at.BRANCH  # of those that have nothing left to play; they are reset below
        observations, _, ended, _, infos = env.step(actions)
        steps += 1
        for k in np.flatnonzero(ended & alive):
            last = replay.last(int(k))
            columns[running[k]] = (
                replay.answered_code(int(k)), infos["tokens"][k], last["sequential_tokens"], last["peak_width"],
                infos["probes"][k], last["branches"],
            )  # fmt: skip
        if (alive & ~ended & (steps >= longest)).any():
            question, order = pairs[running[np.argmax(alive & ~ended & (steps >= longest))]]
            raise PolicyError(f"{policy.name}: question {question}, order {order}: no answer after {longest:,} actions")
        if not ended.any():
            continue
        fresh = ended.copy()
        for k in np.flatnonzero(ended):
            if alive[k] and following < len(pairs):
                running[k], following = following, following + 1
            else:
                alive[k] = False
        steps[fresh] = 0
        options = {"reset_mask": fresh, "question": pairs[running, 0], "order": pairs[running, 1]}
        observations, infos = env.reset(options=options)
    return Outcomes(*np.moveaxis(columns.reshape(len(questions), len(orders), 6), 2, 0))


def _chosen(policy: Policy, act: Act, observations: Any, masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    try:
        actions = np.asarray(act(observations, masks))
    except Exception as error:
        raise PolicyError(f"{policy.name}: {type(error).__name__}: {error}") from error
    if actions.shape != masks.shape[:1] or actions.dtype.kind not in "iu":
        raise PolicyError(
            f"{policy.name}: should return {len(masks)} actions as whole numbers, "
            f"found {actions.dtype} of shape {actions.shape}"
        )
    if actions.min() < 0 or actions.max() >= masks.shape[1]:
        raise PolicyError(f"{policy.name}: actions should be from 0 to {masks.shape[1] - 1}, found {actions.tolist()}")
    return actions.astype(np.int64)


def _limited(settings: Mapping[str, Any], limits: Limits | None) -> dict[str, Any]:
    """The settings, with the limits of the evaluation where there are any; the width is the policy's own."""
    limits = limits or Limits()
    given = {"budget": limits.budget, "probe_cost": limits.probe_cost or None}
    merged = {**settings, **{name: value for name, value in given.items() if value is not None}}
    if limits.max_branches is not None:
        merged.setdefault("max_branches", limits.max_branches)
    return merged


# --- finding and loading -----------------------------------------------------------------------------


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    head, colon, tail = spec.rpartition(":")
    if not (colon and "=" in tail):
        return spec, {}
    settings = {}
    for setting in filter(None, tail.split(",")):
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not (name and equals and value):
            raise UsageError(f"{spec}: expected setting=value, found '{setting}'")
        settings[name] = _plain(value)
    return head, settings


def _plain(value: str) -> Any:
    """A number, true, false or null as JSON has it, otherwise the text itself."""
    try:
        return json.loads(value.lower() if value.lower() in ("true", "false", "none") else value)
    except ValueError:
        return None if value.lower() == "none" else value


def _random(seed: int) -> Act:
    random = np.random.default_rng(seed)

    def act(observations: Any, masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        draws = np.where(masks, random.random(masks.shape), -1.0)
        return draws.argmax(axis=1)

    return act


def _attribute(where: str, attribute: str) -> Any:
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not is_file(path):
                raise UsageError(f"{where}: no such policy file")
            described = importlib.util.spec_from_file_location(path.stem, path)
            assert described is not None and described.loader is not None
            module = importlib.util.module_from_spec(described)
            described.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"{where}: no such module ({error})") from None
    except Exception as error:
        raise PolicyError(f"{where}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise UsageError(f"{where}: has no '{attribute}'")
    return getattr(module, attribute)


def _from_file(path: Path, algorithm: str | None) -> Any:
    try:
        if path.suffix == ".zip":
            return _model(path, algorithm)
        if path.suffix == ".pt":
            return _need("torch").load(path, map_location="cpu", weights_only=False)
    except (UsageError, PolicyError):
        raise
    except Exception as error:
        raise PolicyError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    raise UsageError(f"{path}: a policy file is a .zip of Stable-Baselines3, a .pt, or FILE.py:NAME")


def _model(path: Path, algorithm: str | None) -> Any:
    if algorithm is None:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("data"))["policy_class"]["__module__"]
        kinds = {"sb3_contrib.common.maskable": "MaskablePPO", "stable_baselines3.dqn": "DQN"}
        kinds["stable_baselines3.common"] = "PPO"  # or A2C, which loads as it
        algorithm = next((kind for module, kind in kinds.items() if described.startswith(module)), described)
    if algorithm not in _MODELS:
        raise UsageError(f"{path}: algorithm should be one of {', '.join(_MODELS)}, found {algorithm!r}")
    return getattr(_need(_MODELS[algorithm]), algorithm).load(path, device="cpu")


def _as_act(loaded: Any, what: str) -> tuple[Act, Any]:
    """How to ask it, and the observation space it says it needs, None if it says nothing."""
    kind = type(loaded).__module__.split(".")[0]
    if hasattr(loaded, "policy") and hasattr(loaded, "observation_space"):  # a Stable-Baselines3 model
        torch = _need("torch")
        if "maskable" in type(loaded.policy).__module__:
            return lambda o, m: loaded.predict(o, action_masks=m, deterministic=True)[0], loaded.observation_space

        def ask(observations: Any, masks: NDArray[np.bool_]) -> NDArray[np.int64]:
            with torch.no_grad():
                tensor = loaded.policy.obs_to_tensor(observations)[0]
                if hasattr(loaded.policy, "get_distribution"):
                    values = loaded.policy.get_distribution(tensor).distribution.logits
                else:
                    values = loaded.policy.q_net(tensor)
            return _best(values.numpy(), masks)

        return ask, loaded.observation_space
    if isinstance(loaded, type):
        raise UsageError(f"{what}: a policy should be callable, found the class {loaded.__name__}: give an instance")
    if kind == "torch" or hasattr(loaded, "state_dict"):
        torch = _need("torch")
        loaded.eval()

        def infer(observations: Any, masks: NDArray[np.bool_]) -> NDArray[np.int64]:
            with torch.no_grad():
                return _best(loaded(torch.as_tensor(observations)).numpy(), masks)

        return infer, None
    if not callable(loaded):
        raise UsageError(f"{what}: a policy should be callable, found {type(loaded).__name__}")
    return loaded, None


def _best(values: NDArray[Any], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    if values.shape != masks.shape:
        raise ValueError(f"expected values of shape {masks.shape}, found {values.shape}")
    return np.where(masks, values, -np.inf).argmax(axis=1)


def _takes_beta(space: Any, settings: Mapping[str, Any], what: str) -> bool:
    """Whether a model was trained with beta: its observations are then one number longer, or a Dict."""
    env = TTSReplayVectorEnv(1, **settings)
    plain, actions = env.single_observation_space, env.single_action_space
    if hasattr(space, "spaces"):
        return "beta" in space.spaces
    if space.shape == plain.shape:
        return False
    if len(space.shape) == 1 and plain.shape is not None and space.shape[0] == plain.shape[0] + 1:
        return True
    raise UsageError(
        f"{what}: takes observations of shape {space.shape}, but {plain.shape} is what the environment gives "
        f"(with {actions.n} actions); say how it was made, e.g. {what}:max_branches=8,actions=rounds"  # type: ignore[attr-defined]
    )


def _need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f"this policy needs {module}, not installed here: pip install 'tts-gym[agents]'") from None
