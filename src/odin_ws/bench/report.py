"""Reports runs: tables, warnings and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from odin_ws.bench.results import Measurement

__all__ = ["costs", "problems", "ratio", "rows", "warnings"]

# Above this CPU use, a process other than the server may limit the run.
_BUSY: Final = 0.9

# Several processes share these cores, so one of them is always ready to run.
_FULL: Final = 0.97


def rows(runs: Sequence[Measurement], baselines: Sequence[Measurement]) -> list[list[str]]:
    """Return a row per quantity: its name and its value in each run; omits empty rows."""
    columns = [*runs, *baselines]
    table = [[name, *map(value, columns)] for name, value in _QUANTITIES]
    ratios = [ratio(run, baselines) for run in runs]
    if any(ratios):
        shown = ["" if ratio is None else f"{ratio:.2f} x" for ratio in ratios]
        table.append(["CPU against the baseline", *shown, *("" for _ in baselines)])
    return [row for row in table if any(row[1:])]


def ratio(run: Measurement, baselines: Sequence[Measurement]) -> float | None:
    """Return CPU per message against the baseline's mean; None without messages or baseline."""
    costs = [baseline.cpu_us for baseline in baselines if baseline.cpu_us is not None]
    if run.cpu_us is None or not costs:
        return None
    return run.cpu_us * len(costs) / sum(costs)


def costs(run: Measurement, baselines: Sequence[Measurement]) -> str:
    """Return CPU per message of a run and of the baselines around it; empty without baseline."""
    if not baselines:
        return ""
    return ", ".join(_text(one.cpu_us, "{:.2f} us") for one in (run, *baselines))


def problems(run: Measurement) -> list[str]:
    """Return a line for each error that must not happen."""
    return [
        f"{run.label}: {count} {name.replace('_', ' ')}"
        for name, count in run.problems.items()
        if count
    ]


def warnings(run: Measurement) -> list[str]:
    """Return why the load side may have limited the figures of a run."""
    found = [
        f"{run.label}: the {who} took {share:.0%} of a core: it may limit this run"
        for who, share in (("load", run.load_cpu), ("publisher", run.publisher_cpu))
        if share > _BUSY
    ]
    if run.others_cpu > _FULL:
        found.append(
            f"{run.label}: the cores of broker, publisher and load were busy for "
            f"{run.others_cpu:.0%} of the time: they may limit this run"
        )
    if run.published_rate < run.rate * _BUSY:
        found.append(f"{run.label}: only {run.published_rate:,.0f} records/s were published")
    return found


def _text(value: float | None, form: str) -> str:
    return form.format(value) if value else ""


def _milliseconds(name: str) -> Callable[[Measurement], str]:
    return lambda run: _text(getattr(run.latency, name, None), "{:.1f} ms")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


_QUANTITIES: Final[Sequence[tuple[str, Callable[[Measurement], str]]]] = (
    ("connections", lambda run: f"{run.subscribed:,}"),
    ("connects", lambda run: _text(run.connects, "{:,.0f}/s")),
    ("CPU per connect", lambda run: _text(run.connect_us, "{:.0f} us")),
    ("records", lambda run: _text(run.published_rate, "{:,.0f}/s")),
    ("delivered", lambda run: _text(run.received and run.delivered, "{:,.0f}/s")),
    ("bytes per message", lambda run: _text(run.bytes_each, "{:.0f}")),
    ("latency p50", _milliseconds("p50")),
    ("latency p90", _milliseconds("p90")),
    ("latency p99", _milliseconds("p99")),
    ("latency p99.9", _milliseconds("p999")),
    ("latency max", _milliseconds("worst")),
    ("p99 before reconnect", lambda run: _text(getattr(run.calm, "p99", None), "{:.1f} ms")),
    ("p99 after / before", lambda run: _text(run.against_calm, "{:.2f} x")),
    ("scans of the log", lambda run: _text(getattr(run.scanned, "scans", None), "{:,}")),
    ("records that they read", lambda run: _text(getattr(run.scanned, "records", None), "{:,}")),
    ("CPU of scans", lambda run: _text(getattr(run.scanned, "seconds", None), "{:.2f} s")),
    ("all reconnected after", lambda run: _text(run.back_seconds, "{:.1f} s")),
    ("CPU", lambda run: f"{run.cpu_percent:.1f}%"),
    ("CPU per message", lambda run: _text(run.cpu_us, "{:.2f} us")),
    ("CPU per record", lambda run: _text(run.record_us, "{:.0f} us")),
    ("memory", lambda run: f"{run.rss_after_mb:.0f} MB"),
    ("memory per idle connection", lambda run: _text(run.idle_kb, "{:.1f} KB")),
    ("memory per connection at the end", lambda run: _text(run.streaming_kb, "{:.1f} KB")),
    ("rejected", lambda run: _counts(run.rejected_connections)),
    ("closes by code", lambda run: _counts(run.closes)),
    ("other cores' CPU", lambda run: _text(run.others_cpu, "{:.0%}")),
    ("load's CPU", lambda run: f"{run.load_cpu:.0%}"),
    ("publisher's CPU", lambda run: _text(run.publisher_cpu, "{:.0%}")),
)
