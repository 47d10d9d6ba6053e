"""`make autobahn`: Autobahn's test suite against our reader and frames; see docs/security.md."""

from __future__ import annotations

import argparse
import json
import sys

import click
import trio

from tests.autobahn.suite import run_suite, summary

__all__ = ["main"]


def main() -> int:
    """Run the cases; return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="make autobahn", description=__doc__)
    parser.add_argument("--case", action="append", help="cases or patterns such as 9.*; all")
    parser.add_argument("--json", action="store_true", help="the summary for programs")
    options = parser.parse_args()
    results = trio.run(run_suite, options.case)
    for one in results:
        if not one.passed:
            click.echo(f"{one.case_id}: {one.behavior.value}, close {one.behavior_close.value}")
            click.echo(f"  {one.result}\n  {one.result_close}")
    table = summary(results)
    if options.json:
        click.echo(json.dumps(table))
    else:
        for group, counts in table.items():
            click.echo(
                f"{group:>3}  " + ", ".join(f"{count} {name}" for name, count in counts.items())
            )
    return not all(result.passed for result in results)


if __name__ == "__main__":
    sys.exit(main())
