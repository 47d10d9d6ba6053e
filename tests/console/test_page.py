"""The console's page in Chromium, with a real server and a real broker."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.console.browser import Browser
from tests.integration.events import event
from tests.integration.running_source import Publisher, Sent
from tests.integration.servers import Server, serving, started

FAST = {"KAFKA_FETCH_MAX_WAIT_SECONDS": "0.05"}

# What a figure is while nothing is known: an en dash.
UNKNOWN = "\u2013"

# axe-core's impact levels of faults that shut users out.
SERIOUS = {"serious", "critical"}


def address(server: Server, view: str = "") -> str:
    """Return the URL of a server's console."""
    return f"http://{LOOPBACK}:{server.ops_port}/{view}"


def records(count: int, first: int = 0) -> list[Sent]:
    """Return numbered trades of a few tokens."""
    return [
        event(("BTC", "ETH", "ODIN")[number % 3], "trade", number)
        for number in range(first, first + count)
    ]


@asynccontextmanager
async def publishing(broker: str, rate: float = 40) -> AsyncIterator[list[Any]]:
    """Publish during the block; yields the list of what the broker has."""
    publisher = Publisher(broker)
    written: list[Any] = []

    async def publish() -> None:
        number = 0
        while True:
            publisher.queue(records(4, number), written)
            number += 4
            await trio.sleep(4 / rate)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield written
        nursery.cancel_scope.cancel()
    await publisher.flush()


@asynccontextmanager
async def serving_in_place_of(
    before: Server, broker: str, **settings: str
) -> AsyncIterator[Server]:
    """Run another server at the ports of one that has ended."""
    places = {
        "WS_ADDR": f"{LOOPBACK}:{before.port}",
        "WS_OPS_ADDR": f"{LOOPBACK}:{before.ops_port}",
    }
    with started({"KAFKA_BROKERS": broker, **FAST, **places, **settings}) as server:
        server.port, server.ops_port = before.port, before.ops_port
        await server.responses("/health/ready")
        yield server


async def pixels(browser: Browser, chart: str) -> str:
    """Return the pixels of a chart, as a data URL."""
    code = f"document.querySelector('[data-chart={chart}] canvas').toDataURL()"
    return str(await browser.evaluate(code))


async def tile(browser: Browser, title: str, where: str = "#tiles") -> str:
    """Return a figure by its title."""
    rows = f"[...document.querySelectorAll('{where} > div')]"
    found = f"{rows}.find((row) => row.querySelector('dt').innerText === '{title}')"
    return str(await browser.evaluate(f"{found}.querySelector('dd').innerText")).splitlines()[0]


async def test_charts_begin_with_the_past_and_grow_each_second(
    broker: str, browser: Browser
) -> None:
    """Samples from before the page was opened are on the charts."""
    async with serving(broker, FAST) as server, publishing(broker):
        await server.has_read("odin.trades", 100)
        await trio.sleep(3)
        await browser.do("open", url=address(server))
        await browser.wait_for_text("#state-word", "Serving")
        await browser.wait("document.querySelectorAll('.chart canvas').length === 11")
        first = await pixels(browser, "records")
        # The newest sample is one of the first two seconds of the page; the curve began before.
        await browser.wait("!document.querySelector('[data-tile=in] dd').innerText.startsWith('0')")
        for _ in range(2):
            before = await pixels(browser, "records")
            await browser.do(
                "wait",
                code=f"""() => document.querySelector("[data-chart=records] canvas").toDataURL()
                    !== {before!r}""",
            )
        assert await pixels(browser, "records") != first
        assert await browser.text("#link") == "live"
        assert "8 of 8 live" in await browser.text(".topics h2")
        assert await browser.do("problems") == []


async def test_resume_button_loses_nothing(broker: str, browser: Browser) -> None:
    """Three disconnects while records are published: every record arrives once."""
    async with serving(broker, FAST) as server:
        await browser.do("open", url=address(server, "#try"))
        await browser.wait("document.querySelector('#url').value !== ''")
        await browser.click("#start")
        await browser.wait_for_text("#try-state", "connected")
        async with publishing(broker) as written:
            for number, away in enumerate(("0", "5", "0"), 1):
                await trio.sleep(1)
                await browser.do("choose", selector="#away", value=away)
                await browser.click("#break")
                await browser.wait_for_text("#try-tiles > div:nth-child(5)", str(number))
        await browser.wait_for_text("#try-tiles > div:nth-child(1)", f"{len(written):,}")
        assert await tile(browser, "Messages", "#try-tiles") == f"{len(written):,}"
        assert await tile(browser, "Gaps", "#try-tiles") == "0"
        # Those of five seconds at 40 a second were replayed.
        replayed = (await tile(browser, "Replayed", "#try-tiles")).replace(",", "")
        assert int(replayed) >= 100
        assert "resumed without a hole" in await browser.text("#events")
        assert await browser.do("problems") == []


async def test_filter_and_rate_are_those_of_the_server(broker: str, browser: Browser) -> None:
    """Messages meet the filter, at the rate; an invalid filter is not sent."""
    async with serving(broker, FAST) as server, publishing(broker):
        await browser.do("open", url=address(server, "#try"))
        await browser.wait("document.querySelector('#url').value !== ''")
        await browser.do("fill", selector="#filter", text="nonsense")
        await browser.click("#start")
        assert await browser.text("#try-state") == "not connected"
        await browser.do("fill", selector="#filter", text="data.n < 1000000 and data.n >= 40")
        await browser.do("fill", selector="#rate", text="2")
        await browser.click("#start")
        await browser.wait_for_text("#try-state", "connected")
        # Three channels, two messages a second each.
        await browser.wait("document.querySelectorAll('#messages li').length > 12")
        shown = await browser.evaluate(
            "[...document.querySelectorAll('#messages .data')].map((one) => one.textContent)"
        )
        assert all(json.loads(one)["data"]["n"] >= 40 for one in shown)
        rate = float(await tile(browser, "Per second", "#try-tiles"))
        assert 1 <= rate <= 9
        assert await browser.do("problems") == []


async def test_page_continues_after_a_server_restart(broker: str, browser: Browser) -> None:
    """It reconnects to the new process, keeps its charts and marks the restart."""
    async with serving(broker, FAST) as server, publishing(broker):
        await browser.do("open", url=address(server, "#try"))
        await browser.wait("document.querySelector('#url').value !== ''")
        await browser.click("#start")
        await browser.wait_for_text("#try-state", "connected")
        await trio.sleep(3)
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        async with serving_in_place_of(server, broker):
            await browser.wait_for_text("#try-tiles > div:nth-child(5)", "1")
            await browser.wait_for_text("#link", "live")
            assert await tile(browser, "Gaps", "#try-tiles") == "0"
            await browser.click("[data-view=overview]")
            await browser.wait_for_text("#state-word", "Serving")


async def test_page_says_when_the_server_does_not_answer(broker: str, browser: Browser) -> None:
    """A stopped process ends no connection; figures that were true before are not shown."""
    async with serving(broker, FAST) as server, publishing(broker):
        await browser.do("open", url=address(server))
        await browser.wait_for_text("#state-word", "Serving")
        await browser.wait("!document.querySelector('[data-tile=in] dd').innerText.startsWith('0')")
        server.signal(signal.SIGSTOP)
        try:
            await browser.wait_for_text("#state-word", "No answer")
            await browser.wait_for_text("#advice", "this port does not answer")
            assert await tile(browser, "Records in") == UNKNOWN
            assert await browser.text("[data-chart=records] .value") == UNKNOWN
            assert await browser.text("#link") != "live"
        finally:
            server.signal(signal.SIGCONT)
        await browser.wait_for_text("#state-word", "Serving")
        await browser.wait("document.querySelector('[data-tile=in] dd').innerText !== '\u2013'")
        assert await browser.text("#advice") == ""


LONG = "eu-central-1.logistics.parcels."
TOPICS = ("scanned-at-distribution-centre", "handed-over-to-carrier", "customs-clearance-status")


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
async def test_names_of_another_domain(
    broker: str, browser: Browser, tmp_path: Path, width: int, theme: str
) -> None:
    """Long names keep the end that tells them apart; the first choice is in the catalogue."""
    file = tmp_path / "parcels.toml"
    file.write_text(
        "".join(f'[[topics]]\nname = "{LONG}{name}.v2"\ncategory = "{name}"\n' for name in TOPICS)
        + f"[bundles]\nWHAT_HAPPENS_TO_A_PARCEL_ON_ITS_WAY_TO_YOU = {list(TOPICS)}\n",
        "utf-8",
    )
    settings = {"WS_CATALOGUE": str(file)}
    async with serving(broker, FAST | settings, ready=False) as server:
        await browser.do("open", url=address(server), width=width, theme=theme)
        await browser.wait("document.querySelectorAll('.topics tbody tr').length === 3")
        legend = "document.querySelector('[data-chart=records] .legend')"
        await browser.wait(f"{legend}.children.length > 0")
        # What differs of the names, and how many have no room.
        assert await browser.evaluate(f"{legend}.firstElementChild.innerText") in TOPICS
        assert await browser.evaluate(f"{legend}.scrollHeight <= {legend}.clientHeight")
        cut = "document.querySelector('.topics td.name')"
        end = f"{cut}.firstElementChild.getBoundingClientRect().right"
        assert await browser.evaluate(f"{end} <= {cut}.getBoundingClientRect().right + 1")
        card = "document.querySelector('.topics .scroll')"
        assert await browser.evaluate(f"{card}.scrollWidth <= {card}.clientWidth")
        await browser.click("[data-view=try]")
        assert (await browser.text("#chosen")).split() == [f"*.{TOPICS[0]}"]
        form = "document.querySelector('#try-form')"
        assert await browser.evaluate(f"{form}.scrollWidth <= {form}.clientWidth")
        assert await browser.do("problems") == []


@pytest.mark.timeout(240)
async def test_axe_finds_no_serious_fault(broker: str, browser: Browser) -> None:
    """In each view and both themes, on a desktop and on a phone; no page is wider than it."""
    pages = [
        (view, width, theme)
        for view in ("overview", "tables", "try")
        for width, theme in ((1280, "light"), (1280, "dark"), (390, "light"))
    ]
    async with serving(broker, FAST) as server, publishing(broker):
        await server.has_read("odin.trades", 20)
        for view, width, theme in pages:
            await browser.do(
                "open", url=address(server, f"#{view}"), theme=theme, width=width, height=840
            )
            await browser.wait_for_text("#link", "live")
            found = [one for one in await browser.do("axe") if one["impact"] in SERIOUS]
            assert found == [], (view, width, theme)
            wide = await browser.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, (view, width, theme)
            assert await browser.do("problems") == []


async def test_layout_does_not_shift_when_data_arrive(broker: str, browser: Browser) -> None:
    """Figures, charts and rows have their places before they have data."""
    async with serving(broker, FAST) as server, publishing(broker):
        await browser.do("open", url=address(server))
        await browser.wait_for_text("#link", "live")
        await trio.sleep(4)
        # A tenth of what counts as good (web.dev/cls): a figure that gets another digit.
        shifted = await browser.evaluate("window.shifted")
        assert sum(value for value, _ in shifted) < 0.01, shifted


async def test_page_requests_the_ops_token_once(broker: str, browser: Browser) -> None:
    """A wrong token is reported; the tab keeps the right one, which is in no URL."""
    token = "of the operators, 16"  # noqa: S105 -- of this test
    async with serving(broker, FAST, ready=False, WS_OPS_TOKEN=token) as server:
        await browser.do("open", url=address(server))
        for given in ("not this one", token):
            await browser.wait("document.querySelector('#token-dialog').open")
            await browser.do("fill", selector="#token", text=given)
            await browser.click("#token-form button")
            if given != token:
                await browser.wait_for_text("#token-error", "not accepted")
        await browser.wait_for_text("#link", "live")
        await browser.do("reload")
        await browser.wait_for_text("#link", "live")
        assert not await browser.evaluate("document.querySelector('#token-dialog').open")
        names = "performance.getEntriesByType('resource').map(({ name }) => name).join()"
        assert token not in await browser.evaluate(f"decodeURIComponent(location.href + {names})")
        unauthorized = await browser.do("problems")
        assert all("401" in problem for problem in unauthorized)


async def test_page_names_the_setting_for_its_origin(broker: str, browser: Browser) -> None:
    """While other origins are rejected; with the setting the page subscribes."""
    app = "https://app.example"
    async with serving(broker, FAST, WS_ALLOWED_ORIGINS=app) as server:
        await browser.do("open", url=address(server, "#try"))
        await browser.wait_for_text("#origin-note", "WS_ALLOWED_ORIGINS=")
        setting = await browser.text("#origin-note code")
        assert setting == f"WS_ALLOWED_ORIGINS={app},{address(server).rstrip('/')}"
        await browser.click("#start")
        await browser.wait_for_text("#try-error", "rejects this page's origin")
    origins = setting.partition("=")[2]
    async with serving_in_place_of(server, broker, WS_ALLOWED_ORIGINS=origins) as server:
        await browser.do("open", url=address(server, "#try"))
        await browser.wait("document.querySelector('#url').value !== ''")
        assert not await browser.do("visible", selector="#origin-note")
        await browser.click("#start")
        await browser.wait_for_text("#try-state", "connected")


async def test_console_shows_all_workers_or_one(broker: str, browser: Browser) -> None:
    """A list selects the worker; the table has all of them."""
    async with serving(broker, FAST, WS_WORKERS="2") as server, publishing(broker):
        await browser.do("open", url=address(server))
        await browser.wait_for_text("#worker", "worker 2")
        await browser.wait(
            "document.querySelector('[data-tile=connections] .sub').innerText !== ''"
        )
        both = await browser.text("[data-tile=connections] .sub")
        await browser.do("choose", selector="#worker", value="2")
        await browser.wait(
            f"document.querySelector('[data-tile=connections] .sub').innerText !== {both!r}"
        )
        await browser.do("choose", selector="#worker", value="")
        await browser.click("[data-view=tables]")
        await browser.wait("document.querySelectorAll('#workers tbody tr').length === 2")
        assert await browser.do("problems") == []


async def test_keyboard_reaches_everything(broker: str, browser: Browser) -> None:
    """Views, help, theme and the completion of channels work without a mouse."""
    async with serving(broker, FAST) as server:
        await Publisher(broker).publish(records(3))
        await server.has_read("odin.trades", 3)
        await browser.do("open", url=address(server))
        await browser.wait_for_text("#link", "live")
        for key, view in (("2", "tables"), ("3", "try"), ("1", "overview")):
            await browser.do("press", key=key)
            await browser.wait(f"!document.querySelector('#view-{view}').hidden")
        await browser.do("press", key="d")
        assert await browser.evaluate("document.documentElement.dataset.theme") == "dark"
        await browser.do("press", key="?")
        await browser.wait("document.querySelector('#keys-dialog').open")
        await browser.do("press", key="Escape")
        await browser.do("press", key="/")
        await browser.wait("document.activeElement.id === 'channel'")
        await browser.do("type", text="eth.tr")
        await browser.wait_for_text("#suggestions", "ETH.trade")
        await press(browser, ["ArrowDown", "Enter"])
        assert (await browser.text("#chosen")).split() == ["*.trade", "ETH.trade"]
        assert "--channels '*.trade,ETH.trade'" in await browser.text("#snippet")
        await press(browser, ["Backspace"])
        assert (await browser.text("#chosen")).split() == ["*.trade"]


async def press(browser: Browser, keys: Sequence[str]) -> None:
    """Press keys in order."""
    for key in keys:
        await browser.do("press", key=key)
