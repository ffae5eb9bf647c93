"""Recorded data: in memory, on disk, named and downloaded, imported, generated, graded."""

from tts_gym.pools.autotts import import_json
from tts_gym.pools.grading import merge_equivalent, with_grading
from tts_gym.pools.pool import GRADINGS, Pool, Recording, Signals, Vocabulary
from tts_gym.pools.registry import (
    DEFAULT_POOL,
    at_hand,
    import_named,
    import_tree,
    imported_pools,
    keep,
    name_of,
    open_pool,
    published_files,
    pull,
    shipped_pools,
    validate_pool,
)
from tts_gym.pools.storage import SCHEMA_VERSION, load_pool, save_pool
from tts_gym.pools.synthetic import SyntheticSpec, generate

__all__ = [
    "DEFAULT_POOL",
    "GRADINGS",
    "SCHEMA_VERSION",
    "Pool",
    "Recording",
    "Signals",
    "SyntheticSpec",
    "Vocabulary",
    "at_hand",
    "generate",
    "import_json",
    "import_named",
    "import_tree",
    "imported_pools",
    "keep",
    "load_pool",
    "merge_equivalent",
    "name_of",
    "open_pool",
    "published_files",
    "pull",
    "save_pool",
    "shipped_pools",
    "validate_pool",
    "with_grading",
]
