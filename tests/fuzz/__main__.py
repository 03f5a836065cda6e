"""Fuzzes a decoder with atheris: `python -m tests.fuzz TARGET [--seconds 600]`; `--list` names the targets.

Each run ends with a crash (and leaves its input in the corpus folder), or with what it did. An input that
makes the memory grow beyond the limit, or takes longer than ten seconds, counts as a crash too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["libagenttracer", "hpack", "hyperframe", "wsproto"]):
    from . import targets

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.target:
        print("\n".join(sorted(targets.TARGETS)))
        return
    corpus = ROOT / "build" / "fuzz" / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS.get(options.target, ())):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [
        f"-max_total_time={options.seconds}",
        f"-rss_limit_mb={options.memory_mib}",
        f"-artifact_prefix={corpus}/",
        "-timeout=10",
        "-max_len=8192",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], targets.TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
