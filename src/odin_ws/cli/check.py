"""`odin-ws check`: settings, machine, Kafka and a running service, each with what to do."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

import attrs
import click
import structlog
import trio

from odin_ws.assembly import canary_channel
from odin_ws.catalogue import default_catalogue
from odin_ws.cli.checks.brokers import check_kafka
from odin_ws.cli.checks.configuration import Configuration, check_configuration
from odin_ws.cli.checks.findings import Finding, Findings, Outcome
from odin_ws.cli.checks.machine import check_machine
from odin_ws.cli.checks.service import InvalidUrl, ServiceAddress, check_service, parse_url
from odin_ws.cli.command_runner import run, write_line
from odin_ws.cli.examples import examples
from odin_ws.cli.printable import printable
from odin_ws.settings.secrets import read_secret_file

__all__ = ["check", "print_finding"]

_TOKEN: Final = "ODIN_WS_TOKEN"  # noqa: S105 -- the name of the variable

_INVALID_SETTINGS: Final = 2

_STYLES: Final = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}

_OUTCOME_COLUMNS: Final = 9
_CHECK_COLUMNS: Final = 30


class _Url(click.ParamType[ServiceAddress]):
    """The option type of a URL `ws://…` or `wss://…`."""

    name = "url"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ServiceAddress:
        """Convert the text to an address. Raises click.BadParameter."""
        try:
            return value if isinstance(value, ServiceAddress) else parse_url(value)
        except InvalidUrl as error:
            self.fail(str(error), param, ctx)


@click.command(
    short_help="Check settings, Kafka and a running server.",
    epilog=examples(
        ("What `odin-ws serve` would find with these settings", "odin-ws check"),
        ("A running server too, as its clients reach it", "odin-ws check --url wss://HOST/ws"),
        ("Only the server, with a token", "odin-ws check --url ws://HOST:3002/ws --no-kafka"),
        ("For a deployment pipeline", "odin-ws check --json"),
    ),
)
@click.option(
    "--url",
    "address",
    type=_Url(),
    metavar="URL",
    help="Also check a running server: connect, subscribe, send a heartbeat, close.",
)
@click.option(
    "--channel", help="Channel to subscribe to; required if the token does not grant all channels."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar=f"{_TOKEN}_FILE",
    show_envvar=True,
    help="A file with a JWT for the server.",
)
@click.option("--kafka/--no-kafka", default=True, show_default=True, help="Check Kafka.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=30,
    show_default=True,
    help="Time limit of all checks together; half of it is for --url.",
)
def check(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    address: ServiceAddress | None,
    channel: str | None,
    token_file: Path | None,
    kafka: bool,  # noqa: FBT001 -- a flag
    as_json: bool,  # noqa: FBT001 -- a flag
    seconds: float,
) -> None:
    """Check settings, machine, Kafka and a running server, and say what to do.

    Reads the same settings as `odin-ws serve` and changes nothing. Exit status 0 without a failed
    check, warnings or not; 1 if a check failed; 2 if the settings are invalid, so that nothing else
    was checked.

    For a server with authentication set ODIN_WS_TOKEN, or name a file with --token-file.
    """
    # The warnings about settings are findings here.
    logging.disable(logging.CRITICAL)
    structlog.configure(processors=[_drop])
    findings = Findings(_ignore if as_json else print_finding)
    configuration = check_configuration(findings)
    if configuration is not None:
        command = _Check(findings, configuration, address, channel, token_file, kafka, seconds)
        status = run(command.run)
    else:
        status = _INVALID_SETTINGS
    if as_json:
        write_line(json.dumps(findings.as_json(), ensure_ascii=False, indent=2))
    else:
        write_line(", ".join(f"{findings.counts[outcome]} {outcome}" for outcome in Outcome))
    sys.exit(status)


@attrs.frozen
class _Check:
    findings: Findings
    configuration: Configuration
    address: ServiceAddress | None
    channel: str | None
    token_file: Path | None
    kafka: bool
    seconds: float

    async def run(self) -> int:
        """Run the checks; returns the exit status."""
        findings = self.findings
        check_machine(findings, self.configuration.settings)
        deadline = trio.current_time() + self.seconds
        if self.address is not None:
            # A service that does not answer leaves time for Kafka.
            await self._check_service(self.address, self.seconds / (1 + self.kafka))
        with trio.move_on_at(deadline) as scope:
            if self.kafka:
                await self._check_kafka()
        if scope.cancelled_caught:
            findings.fail(
                "time",
                f"the checks of Kafka were not finished after {self.seconds:g} s",
                "raise the limit with --seconds, and look for a broker that is slow",
            )
        return int(findings.outcome is Outcome.FAILED)

    async def _check_kafka(self) -> None:
        configuration = self.configuration
        if configuration.catalogue is not None and configuration.security is not None:
            await check_kafka(
                self.findings,
                configuration.settings,
                configuration.catalogue,
                configuration.security,
            )

    async def _check_service(self, address: ServiceAddress, seconds: float) -> None:
        try:
            token = self._token()
        except ValueError as error:
            self.findings.fail("service token", str(error), f"correct {self._token_origin}")
            return
        channel = self.channel
        if channel is None:
            channel = canary_channel(self.configuration.catalogue or default_catalogue())
        await check_service(self.findings, address, channel, token, seconds)

    @property
    def _token_origin(self) -> str:
        return _TOKEN if self.token_file is None else "--token-file"

    def _token(self) -> str | None:
        """Return the bearer token, or None without one. Raises ValueError."""
        if self.token_file is not None:
            try:
                token = read_secret_file(self.token_file).reveal().strip()
            except ValueError as error:
                raise ValueError(f"{self.token_file}: the file {error}") from None
        else:
            token = os.environ.get(_TOKEN, "").strip()
        if not all("!" <= one <= "~" for one in token):
            raise ValueError(f"{self._token_origin}: a token has no spaces and only ASCII")
        return token or None


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


def _ignore(_finding: Finding) -> None:
    """Print nothing: `--json` prints all findings at the end."""


def print_finding(finding: Finding) -> None:
    """Print a finding as one or two lines."""
    outcome = click.style(f"{finding.outcome:<{_OUTCOME_COLUMNS}}", fg=_STYLES[finding.outcome])
    # Texts of brokers, services and files.
    check, text = printable(finding.check), printable(finding.text)
    write_line(f"{outcome}{check:<{_CHECK_COLUMNS}} {text}")
    if finding.action:
        write_line(f"{'':<{_OUTCOME_COLUMNS}}-> {printable(finding.action)}")
