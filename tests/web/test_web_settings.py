"""What mpfora web is told: what cannot hold is refused with the option that has to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpfora.config.settings import SettingsError
from mpfora.web.entry import BasicEntry, PeopleFile, TokenEntry, hash_password
from mpfora.web.settings import WebSettings, make_settings, parse_listen


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8460", ("127.0.0.1", 8460)),
        ("8460", ("127.0.0.1", 8460)),
        (":8460", ("127.0.0.1", 8460)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_where_it_listens(text: str, found: tuple[str, int]) -> None:
    assert parse_listen(text) == found


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1", "1:2:3", "host:-1", "host:٣"])
def test_no_place(text: str) -> None:
    with pytest.raises(SettingsError, match="--listen"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"listen": "0.0.0.0:80"}, "--listen"),
        ({"listen": "[::]:80"}, "--listen"),
        ({"listen": "192.0.2.7:80"}, "--listen"),
        ({"listen": "no-such-host.invalid:80"}, "--listen"),
        ({"auth": "header:X-User"}, "--trusted-proxy"),
        ({"trusted_proxies": ("10.0.0.0/8",)}, "--trusted-proxy"),
        ({"auth": "header:X User", "trusted_proxies": ("10.0.0.0/8",)}, "--auth"),
        ({"auth": "header:X-User", "trusted_proxies": ("10.0.0.0/99",)}, "--trusted-proxy"),
        ({"auth": "token"}, "--auth"),
        ({"auth": "token:"}, "--auth"),
        ({"auth": "kerberos:x"}, "--auth"),
        ({"cert": "a"}, "--cert"),
        ({"client_ca": "a"}, "--client-ca"),
        ({"client_ca": "a", "cert": "a", "key": "b", "auth": "token:f"}, "--client-ca"),
        ({"url_prefix": "mpfora"}, "--url-prefix"),
        ({"url_prefix": '/a"><script>'}, "--url-prefix"),
        ({"redact": "("}, "--redact"),
    ],
)
def test_what_cannot_hold_names_the_option(options: dict[str, object], culprit: str) -> None:
    with pytest.raises(SettingsError, match=culprit):
        make_settings(**options)  # type: ignore[arg-type]


def test_what_holds() -> None:
    assert make_settings().is_loopback
    assert not make_settings("0.0.0.0:80", auth="token:f").is_loopback
    assert make_settings(url_prefix="/a/b/").prefix == "/a/b"
    assert WebSettings().redact.search("apiKey")
    assert not make_settings(redact="").redact.search("password")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nobody"),
        ("# nobody\n", "nobody"),
        ("ann admin", "NAME ROLE TOKEN"),
        ("ann king aaaaaaaaaaaaaaaa", "role"),
        ("ann admin short", "16 characters"),
        ("ann admin aaaaaaaaaaaaaaaa\nann view bbbbbbbbbbbbbbbb", "twice"),
        ("a\x1b[2Jn admin aaaaaaaaaaaaaaaa", "printed"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_meant(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=why):
        TokenEntry(str(path), "c")


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("ann admin aaaaaaaaaaaaaaaa")
    path.chmod(0o604)
    with pytest.raises(SettingsError, match="chmod"):
        TokenEntry(str(path), "c")
    with pytest.raises(SettingsError, match="cannot be read"):
        TokenEntry(str(tmp_path / "missing"), "c")


def test_a_password_in_clear_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text("ann admin letmein")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="--make-password"):
        BasicEntry(str(path))
    path.write_text(f"ann admin {hash_password('letmein')}")
    BasicEntry(str(path))


def test_who_is_taken_out_of_the_file_is_out_and_a_file_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("ann admin aaaaaaaaaaaaaaaa\nbob view bbbbbbbbbbbbbbbb")
    path.chmod(0o600)
    file = PeopleFile(str(path), "token")
    key = file.key
    path.write_text("bob view bbbbbbbbbbbbbbbb\n")
    assert list(file.now().people) == ["bob"]
    assert file.now().key != key
    path.write_text("nonsense")
    assert not file.now().people
    path.unlink()
    assert not file.now().people
