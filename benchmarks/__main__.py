"""Run every benchmark, or those named: `python -m benchmarks [name …]`. Prints a Markdown table."""

from __future__ import annotations

import sys

import benchmarks
from backbone import plugins


def main(wanted: list[str]) -> None:
    """Run them in alphabetical order; an unknown name lists the valid ones."""
    print("| benchmark | ours | peer | ratio | limit |\n|---|---|---|---|---|", flush=True)
    for name in wanted or [n for n in plugins.names(benchmarks) if n != "measure"]:
        for line in plugins.load(benchmarks, name).rows():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
