"""Stream tokens: what they say, and that nobody makes or changes one without the secret."""

from __future__ import annotations

import pytest

from holdfast.api.http.auth import Authenticator, Grant, key_hash
from holdfast.api.http.stream_tokens import Claims, NotAToken, key_mark, seal, unseal
from holdfast.errors import Unauthenticated
from holdfast.runs import Caller

SECRET = b"of the store"
CLAIMS = Claims("q-1", "default", 1_000_000, key_mark(SECRET, key_hash("a key")))


def authenticator(*keys: str, secret: str = "of the store") -> Authenticator:
    made = Authenticator([Grant(Caller(key), key_hash(key)) for key in keys])
    made.use_secret(secret)
    return made


def test_what_was_sealed_is_read_again() -> None:
    assert unseal(SECRET, seal(SECRET, CLAIMS)) == CLAIMS


def test_a_token_that_was_changed_anywhere_is_none() -> None:
    token = seal(SECRET, CLAIMS)
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        changed = token[:place] + other + token[place + 1 :]
        # The last character of base64 has bits that say nothing.
        if place < len(token) - 1:
            with pytest.raises(NotAToken):
                unseal(SECRET, changed)


@pytest.mark.parametrize("text", ["", "hst_", "hst_%%%", "hst_AAAA", "hst_é", "hf_abc", "hst_" + "A" * 400])
def test_other_text_is_no_token(text: str) -> None:
    with pytest.raises(NotAToken):
        unseal(SECRET, text)


def test_another_stores_secret_reads_nothing() -> None:
    with pytest.raises(NotAToken):
        unseal(b"another", seal(SECRET, CLAIMS))


def test_a_token_shows_nothing_of_the_key_that_made_it() -> None:
    issuer = authenticator("a key")

    token, _ = issuer.stream_token(issuer.grant_of(b"a key"), "q-1", 10)

    assert key_hash("a key") not in str(unseal(SECRET, token))


def test_every_process_of_a_store_takes_the_tokens_of_the_others() -> None:
    one, other = authenticator("a key"), authenticator("b", "a key")
    token, _ = one.stream_token(one.grant_of(b"a key"), "q-1", 10)

    grant = other.grant_of_token(token, now=9)

    assert (grant.run_id, grant.caller.role, grant.caller.name) == ("q-1", "reader", "a key")


def test_the_time_of_a_token_ends() -> None:
    issuer = authenticator("a key")
    token, _ = issuer.stream_token(issuer.grant_of(b"a key"), "q-1", 10)

    with pytest.raises(Unauthenticated) as caught:
        issuer.grant_of_token(token, now=10)

    assert caught.value.details["reason"] == "token_expired"


def test_a_token_and_what_it_opened_die_with_the_key() -> None:
    issuer = authenticator("a key")
    maker = issuer.grant_of(b"a key")
    token, _ = issuer.stream_token(maker, "q-1", 10)
    opened = issuer.grant_of_token(token, now=1)

    maker.is_revoked = True

    assert opened.is_revoked
    with pytest.raises(Unauthenticated):
        authenticator("b").grant_of_token(token, now=1)


def test_a_token_of_an_open_server_opens_nothing_on_one_with_keys() -> None:
    open_server = Authenticator(is_open=True)
    open_server.use_secret("of the store")
    token, _ = open_server.stream_token(open_server.authenticate([]), "q-1", 10)

    with pytest.raises(Unauthenticated):
        authenticator("a key").grant_of_token(token, now=1)
