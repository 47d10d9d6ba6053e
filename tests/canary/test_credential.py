"""The credential of the canary is known to nobody else, and good for this machine only."""

from __future__ import annotations

import pytest

from odin_ws.address import Address
from odin_ws.canary.credential import (
    CANARY_HEADER,
    CanaryCredential,
    derive_secret,
    new_secret,
)
from odin_ws.settings import Secret

SECRET = Secret("s3cret" * 10)


def test_a_new_secret_has_256_bits_and_is_never_the_same() -> None:
    """Nobody guesses it, and a process that has ended has no part in it."""
    secrets = {new_secret().reveal() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(bytes.fromhex(secret)) for secret in secrets} == {32}


def test_workers_derive_the_same_secret_which_is_not_the_shared_one() -> None:
    """The kernel may give a canary's connection to any of them."""
    derived = derive_secret(SECRET)
    assert derived == derive_secret(Secret(SECRET.reveal()))
    assert derived != derive_secret(Secret("another"))
    assert SECRET.reveal() not in derived.reveal()
    assert len(bytes.fromhex(derived.reveal())) == 32


@pytest.mark.parametrize(
    ("listening", "host"),
    [
        (Address("", 3002), "127.0.0.1"),
        (Address("127.0.0.1", 3002), "127.0.0.1"),
        (Address("::1", 3002), "::1"),
        (Address("192.0.2.7", 3002), "192.0.2.7"),
    ],
)
def test_the_canary_connects_to_where_the_server_listens(listening: Address, host: str) -> None:
    """It comes from the address that it connects to, and is looked for at no other."""
    credential = CanaryCredential.of(SECRET, listening)
    assert credential.address == Address(host, 3002)
    assert credential.addresses == {host}


@pytest.mark.parametrize("shown", [None, "", "s3cret", SECRET.reveal()[:-1], SECRET.reveal() + "x"])
def test_another_secret_does_not_match(shown: str | None) -> None:
    """Nor a part of the right one."""
    credential = CanaryCredential.of(SECRET, Address("", 3002))
    headers = {} if shown is None else {CANARY_HEADER: shown}
    assert not credential.matches(headers)
    assert credential.matches({CANARY_HEADER: SECRET.reveal()})


def test_no_text_of_a_credential_shows_the_secret() -> None:
    """Tracebacks and logs may have it."""
    assert SECRET.reveal() not in repr(CanaryCredential.of(SECRET, Address("", 3002)))
