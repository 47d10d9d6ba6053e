"""The answer names the agreed parameters, always with `no_context_takeover`."""

from __future__ import annotations

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import parse_extension

from odin_ws.protocol.permessage_deflate import negotiate

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "window_bits", "more"),
    [
        pytest.param("permessage-deflate", 15, "", id="bare"),
        pytest.param("permessage-deflate; client_max_window_bits", 15, "", id="browsers"),
        pytest.param(
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            12,
            "; server_max_window_bits=12",
            id="websockets",
        ),
        pytest.param(
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            15,
            "",
            id="gorilla",
        ),
        pytest.param(
            'permessage-deflate; server_max_window_bits="14"',
            12,
            "; server_max_window_bits=12",
            id="quoted, between two windows",
        ),
        pytest.param(
            "permessage-deflate;server_max_window_bits=15",
            15,
            "; server_max_window_bits=15",
            id="largest",
        ),
        pytest.param(
            "permessage-deflate; server_max_window_bits = 8",
            8,
            "; server_max_window_bits=8",
            id="smallest",
        ),
        pytest.param(
            "x-webkit-deflate-frame, permessage-deflate; nonsense, Permessage-Deflate",
            15,
            "",
            id="third offer",
        ),
        pytest.param(
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            8,
            "; server_max_window_bits=8",
            id="the first of two",
        ),
    ],
)
def test_first_acceptable_offer_is_accepted(offers: str, window_bits: int, more: str) -> None:
    """The answer names the agreed parameters, always with `no_context_takeover`."""
    agreed = negotiate(offers)
    assert agreed is not None
    assert (agreed.response, agreed.window_bits) == (ANSWER + more, window_bits)


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "permessage-bzip2",
        "permessage-deflate2",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate;",
        'permessage-deflate; server_max_window_bits="12',
    ],
)
def test_invalid_offer_is_declined(offers: str) -> None:
    """A declined offer is no error: the connection continues without compression."""
    assert negotiate(offers) is None


@pytest.mark.parametrize(
    "factory",
    [
        ClientPerMessageDeflateFactory(),
        ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=True),
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True
        ),
    ],
)
def test_answer_is_accepted_by_websockets(factory: ClientPerMessageDeflateFactory) -> None:
    """The websockets library accepts the answer to its own offer."""
    offer = "; ".join(
        ["permessage-deflate"]
        + [
            name if value is None else f"{name}={value}"
            for name, value in factory.get_request_params()
        ]
    )
    agreed = negotiate(offer)
    assert agreed is not None
    ((_name, parameters),) = parse_extension(agreed.response)
    extension = factory.process_response_params(parameters, [])
    assert extension.remote_no_context_takeover
    assert extension.local_no_context_takeover
