"""The examples of docs/client-js.md."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from tests.client_js.fake import FakeServer
from tests.client_js.follower import PACKAGE, PATIENCE
from tests.docs.pages import blocks, page

# What the example uses of a browser; the page is left when the feed has had a message.
BROWSER = """
const storage = { odin: %s };
globalThis.localStorage = {
  getItem: (key) => storage[key] ?? null,
  setItem: (key, value) => { console.log(value); process.exit(); },
};
let leave;
globalThis.addEventListener = (_event, listener) => { leave = listener; };
console.warn = () => leave();
"""


def install(project: Path) -> None:
    """Have a folder in which the package can be imported."""
    modules = project / "node_modules"
    modules.mkdir()
    (modules / "odin-ws-client").symlink_to(PACKAGE, target_is_directory=True)
    (project / "package.json").write_text('{"type": "module"}')


async def test_example_that_subscribes_later_prints_the_response(
    server: FakeServer, node: list[str], tmp_path: Path
) -> None:
    """It prints accepted and rejected names, and unsubscribes the first name."""
    (example,) = (
        block for block in blocks(page("docs/client-js.md"), "js") if "feed.subscribe" in block.text
    )
    install(tmp_path)
    code = example.text.replace("ws://localhost:3002/ws", server.url)
    (tmp_path / "page.js").write_text(code + "\nprocess.exit();\n")

    async def visit() -> None:
        first = await server.visit()
        await first.accept()
        rejected = [{"name": "ETH.foo", "code": "INVALID_CHANNEL", "message": "no"}]
        await first.accept(subscribed=["ETH.trade"], rejected=rejected, replayed=0)
        command = await first.command()
        assert (command["type"], command["data"]) == ("unsubscribe", {"channels": ["BTC.trade"]})
        await first.send_item(
            "unsubscription_ack", unsubscribed=["BTC.trade"], rejected=[], count=1
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        with trio.fail_after(PATIENCE):
            done = await trio.run_process([*node, str(tmp_path / "page.js")], capture_stdout=True)
    assert done.stdout.startswith(b"following [ 'ETH.trade' ] but not [")


async def test_example_resumes_from_stored_state(
    server: FakeServer, node: list[str], tmp_path: Path
) -> None:
    """The page's first example stores a state computed from messages, with its positions."""
    example, *_ = blocks(page("docs/client-js.md"), "js")
    code = example.text.replace("ws://localhost:3002/ws", server.url)
    assert code != example.text
    stored = {"prices": {"ETH.trade": "7"}, "positions": {"odin.trades": {"0": 4}}}
    install(tmp_path)
    (tmp_path / "browser.js").write_text(BROWSER % json.dumps(json.dumps(stored)))
    (tmp_path / "page.js").write_text('import "./browser.js";\n' + code)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit_of_the_example, server)
        with trio.fail_after(PATIENCE):
            done = await trio.run_process([*node, str(tmp_path / "page.js")], capture_stdout=True)
    assert json.loads(done.stdout) == {
        "prices": {"ETH.trade": "7", "BTC.trade": "0.1"},
        "positions": {"odin.trades": {"0": 9}},
        "ids": {"odin.trades": "a"},
    }


async def visit_of_the_example(server: FakeServer) -> None:
    """Send it a trade, and then tell it of a loss."""
    visit = await server.visit()
    command = await visit.accept(ids={"odin.trades": "a"})
    assert command["data"]["positions"] == {"odin.trades": {"0": 4}}
    await visit.message(1, "0-9", data={"data": {"price": "0.1"}})
    await visit.send_item("feed", status="lost", lost={}, reason="expired")
