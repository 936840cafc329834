"""From settings to a reachable, authenticated client: what every Kafka client here is built from."""

from __future__ import annotations

import importlib.util
import json
import queue
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl.oauth import AbstractTokenProvider

from streamd.errors import ConfigError, TransientError
from streamd.transport.kafka_mends import REFUSED, keep_last_words
from streamd.transport.settings import KafkaSettings, OauthSettings

BOOTSTRAP_SECONDS = 8.0  # from the first packet to the broker list; a healthy broker takes 0.05
REACH_SECONDS = 4.0  # name lookup, TCP and TLS
_TOKEN_SECONDS = 5.0
_TOKEN_MARGIN_SECONDS = 30.0  # a token that ends sooner is as good as ended

_Client = TypeVar("_Client")


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The options that consumer, producer and admin client share. ConfigError when a file cannot be used."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": BOOTSTRAP_SECONDS * 1000,
        # A broker that comes back is found within 2 s, not within the 30 s of the default.
        "reconnect_backoff_max_ms": 2_000,
    }
    context = tls_context(settings)
    if context is not None:
        options["ssl_context"] = context
        options["ssl_check_hostname"] = settings.ssl_check_hostname
    if settings.sasl_mechanism is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER":
            options["sasl_oauth_token_provider"] = TokenProvider(settings.oauth)
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.sasl_password and settings.sasl_password.get_secret_value()
    return options


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """The TLS side of the settings; None without TLS. ConfigError that names the file that cannot be used."""
    if not settings.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigError(f"kafka.ssl_cafile: {settings.ssl_cafile} cannot be used: {error}") from error
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile is not None:
        password = settings.ssl_key_password and settings.ssl_key_password.get_secret_value()
        try:
            # An empty password where none is given: OpenSSL would ask at the terminal, and wait.
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password or "")
        except OSError as error:
            raise ConfigError(f"kafka.ssl_certfile: {settings.ssl_certfile} cannot be used: {error}") from error
    return context


def reach(settings: KafkaSettings, timeout_seconds: float = REACH_SECONDS) -> None:
    """Return once one of the bootstrap servers accepts a connection (and its certificate is good).

    The client would find out too, but only by backing off for seconds, and it looks names up on its I/O
    thread, without a deadline. Here each server has a thread that may hang without harm.

    Raises TransientError when nobody answers in time, ConfigError when a certificate is not trusted.
    """
    context = tls_context(settings)
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def knock(server: str) -> None:
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        try:
            with socket.create_connection((host, int(port)), timeout=timeout_seconds) as connection:
                if context is not None:
                    context.wrap_socket(connection, server_hostname=host).close()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    for server in settings.bootstrap_servers:
        threading.Thread(target=knock, args=(server,), name=f"streamd-reach-{server}", daemon=True).start()
    deadline = time.monotonic() + timeout_seconds
    errors: list[Exception] = []
    for _ in settings.bootstrap_servers:
        try:
            error = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            errors.append(TimeoutError(f"no answer within {timeout_seconds:g} s"))
            break
        if error is None:
            return
        errors.append(error)
    servers = ", ".join(settings.bootstrap_servers)
    untrusted = next((e for e in errors if isinstance(e, ssl.SSLCertVerificationError)), None)
    if untrusted is not None:
        raise ConfigError(f"kafka.ssl_cafile: the certificate of {servers} is not trusted: {untrusted.verify_message}")
    raise TransientError(f"no broker answers at {servers}: {errors[-1]}") from errors[-1]


def build(factory: Callable[..., _Client], settings: KafkaSettings, **options: Any) -> _Client:
    """Make a client, and clean up after it when that fails: its I/O thread would live on, one for each attempt.

    Raises ConfigError when the broker refuses us, TransientError when it does not answer.
    """
    if importlib.util.find_spec("crc32c") is None:
        raise ConfigError("the package crc32c is missing (4 MB/s without it): pip install 'kafka-python[crc32c]'")
    reach(settings)
    made: list[KafkaNetClient] = []

    def client(**configs: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**configs))
        keep_last_words(made[-1])
        return made[-1]

    try:
        return factory(**client_options(settings), **options, kafka_client=client)
    except Exception as error:
        for half_made in made:
            half_made.close()
        raise explained(error, settings) from error


def explained(error: Exception, settings: KafkaSettings) -> ConfigError | TransientError:
    """What an error while connecting means, as a sentence that says what to look at."""
    servers = ", ".join(settings.bootstrap_servers)
    if isinstance(error, REFUSED):
        who = settings.sasl_username or settings.client_id
        return ConfigError(
            f"kafka: {servers} refuses {who!r} ({settings.sasl_mechanism or settings.security_protocol}): {error}"
        )
    if isinstance(error, kafka_errors.KafkaConfigurationError | ValueError | TypeError):
        return ConfigError(f"kafka: {error}")
    if isinstance(error, kafka_errors.KafkaTimeoutError):
        return TransientError(
            f"{servers} accepts connections but does not answer as a Kafka broker; "
            f"is security_protocol {settings.security_protocol} what this port speaks?"
        )
    return TransientError(f"{servers}: {error}")


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python ships no types
    """Gives the client a token for each login: fixed, read from a file, or by the client-credentials grant."""

    def __init__(self, settings: OauthSettings) -> None:
        super().__init__()
        self._settings = settings
        self._cached = ""
        self._good_until = 0.0

    def token(self) -> str:
        """Runs on the client's I/O thread; a request for a token is bounded in time."""
        settings = self._settings
        if settings.token is not None:
            return settings.token.get_secret_value()
        if settings.token_file is not None:
            return settings.token_file.read_text().strip()
        if time.monotonic() >= self._good_until:
            self._cached, lifetime_seconds = self._request()
            self._good_until = time.monotonic() + lifetime_seconds - _TOKEN_MARGIN_SECONDS
        return self._cached

    def _request(self) -> tuple[str, float]:
        """The client-credentials grant, RFC 6749 section 4.4."""
        settings = self._settings
        assert settings.token_url is not None
        secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
        form = {"grant_type": "client_credentials", "client_id": settings.client_id or "", "client_secret": secret}
        if settings.scope is not None:
            form["scope"] = settings.scope
        request = urllib.request.Request(settings.token_url, urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=_TOKEN_SECONDS) as response:
            answer = json.load(response)
        return str(answer["access_token"]), float(answer.get("expires_in", 300))
