"""The command line: ``tts-gym``. Each command imports what it needs when it runs, so that --help is instant."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tts_gym.errors import TTSGymError, UsageError
from tts_gym.files import check_writable, is_file, is_folder

Handler = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 done, 1 bad data, 2 wrong usage, 130 interrupted."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except TTSGymError as error:
        print(f"tts-gym: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tts-gym: interrupted; nothing half-written was left behind", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # threads may be deep in compiled code, which hears no signal
    except BrokenPipeError:  # whoever was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from importlib.metadata import version

        print(f"tts-gym {version('tts-gym')}")
        return 0
    handler: Handler | None = getattr(parsed, "handler", None)
    if handler is None:
        getattr(parsed, "group", parser).print_help()
        return 2
    logger = logging.getLogger("tts_gym")
    logger.setLevel(logging.INFO)
    logger.addHandler(_StandardError())
    return handler(parsed)


class _StandardError(logging.Handler):
    """Messages to standard error, as it is when they are sent."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"tts-gym: {record.getMessage()}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tts-gym",
        description="Build, discover, learn and judge test-time-scaling controllers on recorded model output.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(handler=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    evaluate = commands.add_parser(
        "evaluate",
        help="score controllers and policies on pools over a sweep of beta",
        description="Score controllers and policies on pools over a sweep of beta. Program and policy files run in "
        "this process: run only what you trust.",
    )
    evaluate.add_argument(
        "--pool", nargs="+", action="extend", metavar="FILE_OR_NAME", help="pools (default: the one shipped)"
    )
    evaluate.add_argument(
        "--controller",
        nargs="+",
        action="extend",
        metavar="SPEC",
        default=[],
        help="controller name or program file, with knobs fixed if you like: cmc, sc:n=64, my_program.py",
    )
    evaluate.add_argument(
        "--policy",
        nargs="+",
        action="extend",
        metavar="SPEC",
        default=[],
        help="random, a Stable-Baselines3 .zip, a torch .pt, or MODULE_OR_FILE.py:NAME, each with settings of the "
        "environment if need be: model.zip:actions=rounds,max_branches=16",
    )
    evaluate.add_argument(
        "--beta", type=_betas, default=None, metavar="B,B,...", help="points in [0, 1] (0,0.25,0.5,0.75,1)"
    )
    evaluate.add_argument("--orders", type=_orders, default=100, metavar="N", help="orders of the branches (100)")
    evaluate.add_argument("--grading", default="exact", metavar="MODE", help="exact (default) or math")
    evaluate.add_argument("--merge-equivalent", action="store_true", help="mathematically equal answers share a vote")
    evaluate.add_argument("--interpreted", action="store_true", help="run programs as plain Python, to debug them")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    evaluate.add_argument("--parquet", type=Path, metavar="FILE", help="write one row per episode as Parquet")
    evaluate.set_defaults(handler=_evaluate)

    play = commands.add_parser("play", help="write a page that plays one episode, or up to three side by side")
    play.add_argument("--pool", metavar="FILE_OR_NAME", help="the pool (default: the one shipped)")
    play.add_argument("--question", type=int, required=True, metavar="N", help="index of the question")
    play.add_argument("--order", type=int, default=0, metavar="N", help="number of the order of branches (0)")
    play.add_argument("--controller", nargs="+", required=True, metavar="SPEC", help="as for evaluate; up to three")
    play.add_argument(
        "--beta", type=_betas, default=[0.5], metavar="B,B,...", help="one for all controllers (0.5), or one for each"
    )
    play.add_argument("--grading", default="exact", metavar="MODE", help="exact (default) or math")
    play.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    play.set_defaults(handler=_play)

    reproduce = commands.add_parser("reproduce", help="recompute published numbers")
    reproduce.add_argument("what", choices=["paper-table1"], help="paper-table1: Table 1 of arXiv 2605.08083")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    reproduce.set_defaults(handler=_reproduce)

    controllers = commands.add_parser("controllers", help="list the shipped controllers")
    controllers.set_defaults(handler=_controllers)

    _add_pools(commands.add_parser("pools", help="list, inspect, fetch, import, check and make pools"))

    bench = commands.add_parser("bench", help="measure speed and memory on this machine and print tables")
    bench.add_argument(
        "what", nargs="?", choices=["replay", "env"], default="replay",
        help="replay (default): programs, loading, start-up, memory; env: steps per second beside CartPole's",
    )  # fmt: skip
    bench.set_defaults(handler=_bench)
    return parser


def _add_pools(pools: argparse.ArgumentParser) -> None:
    pools.set_defaults(group=pools)
    actions = pools.add_subparsers(title="actions", metavar="ACTION")

    listing = actions.add_parser("list", help="every pool known by name")
    listing.set_defaults(handler=_pools_list)

    info = actions.add_parser("info", help="what pools hold, measured")
    info.add_argument("pool", nargs="+", metavar="FILE_OR_NAME")
    info.set_defaults(handler=_pools_info)

    pull = actions.add_parser("pull", help="download published pools, checked and kept")
    pull.add_argument("pool", nargs="+", metavar="NAME", help="a published pool, or autotts for all")
    pull.set_defaults(handler=_pools_pull)

    importing = actions.add_parser("import", help="import an AutoTTS JSON file or a whole folder of them")
    importing.add_argument("path", type=Path, metavar="PATH")
    importing.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write this Parquet file (one JSON file only)"
    )
    importing.add_argument("--name", help="what to call the pool (one JSON file only)")
    importing.add_argument(
        "--grading", default="exact", metavar="MODE", help="also grade by this mode and keep the result"
    )
    importing.set_defaults(handler=_pools_import)

    audit = actions.add_parser("audit", help="where exact and math grading disagree, question by question")
    audit.add_argument("pool", nargs="+", metavar="FILE_OR_NAME")
    audit.set_defaults(handler=_pools_audit)

    validate = actions.add_parser("validate", help="check pools against their content hash")
    validate.add_argument("pool", nargs="+", metavar="FILE_OR_NAME")
    validate.set_defaults(handler=_pools_validate)

    make = actions.add_parser("make", help="make a synthetic pool")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    make.add_argument("--seed", type=int, default=0, metavar="N")
    make.add_argument("--name", default=None, help="what to call the pool")
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    make.set_defaults(handler=_pools_make)


def _betas(text: str) -> list[float]:
    try:
        betas = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, found '{text}'") from None
    for beta in betas:
        if not 0 <= beta <= 1:
            raise argparse.ArgumentTypeError(f"beta should be between 0 and 1, found {beta:g}")
    return betas


def _orders(text: str) -> int:
    try:
        orders = int(text)
    except ValueError:
        orders = 0
    if orders < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number of at least 1, found '{text}'")
    return orders


def _evaluate(parsed: argparse.Namespace) -> int:
    outputs = [path for path in (parsed.json, parsed.parquet) if path is not None]
    if len(outputs) > len({path.absolute() for path in outputs}):
        raise UsageError(f"{outputs[0]}: --json and --parquet name the same file")
    for path in outputs:
        check_writable(path)
    if not parsed.controller and not parsed.policy:
        raise UsageError("evaluate needs a --controller or a --policy")
    from tts_gym.evaluation import BETAS, evaluate, frontier_table, policy
    from tts_gym.pools import DEFAULT_POOL

    results = evaluate(
        [*parsed.controller, *(policy(spec) for spec in parsed.policy)],
        parsed.pool or [DEFAULT_POOL],
        parsed.beta or BETAS,
        parsed.orders,
        grading=parsed.grading,
        merge=parsed.merge_equivalent,
        interpreted=parsed.interpreted,
        progress=True,
    )
    print(frontier_table(results.rows))
    if parsed.json is not None:
        results.save_json(parsed.json)
    if parsed.parquet is not None:
        results.save_parquet(parsed.parquet)
    for path in outputs:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _play(parsed: argparse.Namespace) -> int:
    check_writable(parsed.output)
    if len(parsed.beta) not in (1, len(parsed.controller)):
        raise UsageError(
            f"--beta should be one number or one for each of the {len(parsed.controller)} controllers, "
            f"found {len(parsed.beta)}"
        )
    from tts_gym.evaluation import contestant
    from tts_gym.evaluation.player import play, save_page
    from tts_gym.pools import DEFAULT_POOL, open_pool

    betas = parsed.beta * (len(parsed.controller) if len(parsed.beta) == 1 else 1)
    played = [(contestant(spec), beta) for spec, beta in zip(parsed.controller, betas, strict=True)]
    pool = open_pool(parsed.pool or DEFAULT_POOL)
    save_page(play(played, pool, parsed.question, parsed.order, grading=parsed.grading), parsed.output)
    print(f"wrote {parsed.output}: open it in a browser")
    return 0


def _reproduce(parsed: argparse.Namespace) -> int:
    if parsed.json is not None:
        check_writable(parsed.json)
    from tts_gym.evaluation.reproduce import reproduce_paper_table1

    comparison = reproduce_paper_table1(progress=True)
    print(comparison.table())
    print(comparison.summary())
    if parsed.json is not None:
        comparison.save_json(parsed.json)
        print(f"wrote {parsed.json}", file=sys.stderr)
    return 1 if comparison.unexplained else 0


def _controllers(parsed: argparse.Namespace) -> int:
    from tts_gym.controllers import controller_files
    from tts_gym.programs.program import load_program

    programs = [load_program(path, name) for name, path in controller_files().items()]
    width = max(len(program.name) for program in programs)
    for program in programs:
        print(f"{program.name:{width}}  {program.summary}")
        print(f"{'':{width}}  knobs at beta 0.5: {', '.join(f'{k}={v:g}' for k, v in program.knobs(0.5).items())}")
    return 0


def _bench(parsed: argparse.Namespace) -> int:
    if parsed.what == "env":
        from tts_gym.evaluation.bench_env import bench_env

        bench_env()
    else:
        from tts_gym.evaluation.bench import bench

        bench()
    return 0


def _pools_list(parsed: argparse.Namespace) -> int:
    from tabulate import tabulate

    from tts_gym.pools import at_hand, imported_pools, published_files, shipped_pools

    shipped, published = shipped_pools(), published_files()
    rows = [(name, "shipped") for name in shipped]
    rows += [
        (name, "at hand" if at_hand(name) else f"to download, {file.size / 1e6:.1f} MB: tts-gym pools pull {name}")
        for name, file in published.items()
    ]
    rows += [(name, "imported") for name in imported_pools() if name not in published]
    print(tabulate(rows, headers=("pool", "state")))
    return 0


def _pools_info(parsed: argparse.Namespace) -> int:
    from tts_gym.pools import open_pool
    from tts_gym.pools.statistics import pool_statistics, statistics_table

    pools = [open_pool(name) for name in parsed.pool]
    for pool in pools:
        print(f"{pool.name}\n  content {pool.content_hash}")
        for key, value in pool.provenance.items():
            print(f"  {key}: {value}")
    print()
    print(statistics_table({pool.name: pool_statistics(pool) for pool in pools}))
    return 0


def _pools_pull(parsed: argparse.Namespace) -> int:
    from tts_gym.pools import published_files, pull

    names = [name for asked in parsed.pool for name in (published_files() if asked == "autotts" else [asked])]
    for number, name in enumerate(names, start=1):
        pool = pull(name, progress=sys.stderr.isatty())
        print(f"[{number}/{len(names)}] {_described(pool)}")
    return 0


def _pools_import(parsed: argparse.Namespace) -> int:
    from tts_gym.pools import import_named, import_tree, keep, name_of, save_pool, with_grading

    path: Path = parsed.path
    if is_folder(path):
        if parsed.output or parsed.name:
            raise UsageError(f"{path}: --output and --name are for one file, not for a folder")
        for source, pool in import_tree(path):
            keep(with_grading(pool, parsed.grading))
            print(f"{source} -> {_described(pool)}")
        return 0
    if not is_file(path):
        raise UsageError(f"{path}: no such file or folder")
    if parsed.output is not None:
        check_writable(parsed.output)
    pool = with_grading(import_named(path, parsed.name or name_of(path)), parsed.grading)
    if parsed.output is not None:
        save_pool(pool, parsed.output)
        print(f"{path} -> {parsed.output}: {_described(pool)}")
    else:
        keep(pool)
        print(f"{path} -> {_described(pool)}")
    return 0


def _described(pool: Any) -> str:
    return f"{pool.name} ({pool.recording.questions} questions x {pool.recording.branches} branches)"


def _pools_audit(parsed: argparse.Namespace) -> int:
    from tts_gym.pools import open_pool
    from tts_gym.pools.audit import audit_table

    print(audit_table([open_pool(name) for name in parsed.pool]))
    return 0


def _pools_validate(parsed: argparse.Namespace) -> int:
    from tts_gym.pools import validate_pool

    for name in parsed.pool:
        pool = validate_pool(name)
        print(f"{_described(pool)}: valid, content {pool.content_hash}")
    return 0


def _pools_make(parsed: argparse.Namespace) -> int:
    check_writable(parsed.output)
    from tts_gym.pools import SyntheticSpec, generate, save_pool

    settings = {}
    for setting in parsed.settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set expects NAME=VALUE, found '{setting}'")
        settings[name] = value
    pool = generate(SyntheticSpec.from_settings(settings), seed=parsed.seed, name=parsed.name)
    save_pool(pool, parsed.output)
    print(f"{parsed.output}: {_described(pool)}, content {pool.content_hash}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
