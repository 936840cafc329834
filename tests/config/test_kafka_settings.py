"""Bounds between the options of one connection, and credentials that fit each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamd.transport.settings import KafkaSettings, TopicSettings

SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}
OAUTH = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


def test_servers_may_be_one_string_with_commas():
    assert KafkaSettings(bootstrap_servers="a:1, b:2").bootstrap_servers == ("a:1", "b:2")  # type: ignore[arg-type]


@pytest.mark.parametrize("server", ["broker-1.example.com:9092", "10.0.0.1:1", "[::1]:9092", "kafka_1:65535"])
def test_a_server_is_a_host_and_a_port(server):
    assert KafkaSettings(bootstrap_servers=(server,)).bootstrap_servers == (server,)


@pytest.mark.parametrize("server", ["broker", "broker:", ":9092", "broker:0", "broker:65536", "SSL://b:1", "a b:1"])
def test_anything_else_is_no_server(server):
    with pytest.raises(ValidationError, match="each server is host:port"):
        KafkaSettings(bootstrap_servers=(server,))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bootstrap_servers": ""}, "at least 1"),
        ({"heartbeat_interval_ms": 3_334}, "at most a third of session_timeout_ms (10000)"),
        ({"max_poll_interval_ms": 9_999}, "at least session_timeout_ms (10000)"),
        ({"poll_timeout_ms": 251}, "less than or equal to 250"),
        ({"max_partition_fetch_bytes": 100_000_000}, "at most fetch_max_bytes (52428800)"),
        ({"request_timeout_ms": 2_000, "fetch_max_wait_ms": 2_000}, "greater than fetch_max_wait_ms (2000)"),
        ({"delivery_timeout_ms": 3_999}, "at least producer_request_timeout_ms (4000)"),
        ({"transaction_timeout_ms": 8_000}, "greater than delivery_timeout_ms (8000)"),
        ({"replication_factor": 0}, "at least 1, or -1"),
        ({"sasl_mechanism": "PLAIN"}, "needs security_protocol SASL_SSL or SASL_PLAINTEXT"),
        ({"security_protocol": "SASL_SSL"}, "needs a sasl_mechanism"),
        ({"sasl_password": "x"}, "needs security_protocol SASL_SSL or SASL_PLAINTEXT"),
        ({**SASL, "sasl_username": "me"}, "needs sasl_username and sasl_password"),
        (OAUTH, "needs one of oauth.token"),
        ({**OAUTH, "oauth": {"scope": "kafka"}}, "needs one of oauth.token"),
        ({**OAUTH, "oauth": {"token": "a", "token_file": "/b"}}, "not several"),
        ({**OAUTH, "oauth": {"token_url": "https://login", "client_id": "me"}}, "needs client_id and client_secret"),
        ({**OAUTH, "oauth": {"token_url": "login"}}, "should match pattern"),
        ({"ssl_keyfile": "/key"}, "needs ssl_certfile"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, problem):
    with pytest.raises(ValidationError) as caught:
        KafkaSettings.model_validate(options)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_interval_ms": 3_333},
        {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000, "max_poll_interval_ms": 10_000},
        {**SASL, "sasl_username": "me", "sasl_password": "secret"},
        {**OAUTH, "oauth": {"token_url": "https://login", "client_id": "me", "client_secret": "secret"}},
        {**OAUTH, "oauth": {"token_file": "/run/secrets/token"}},
        {"security_protocol": "SSL", "ssl_certfile": "/cert", "ssl_keyfile": "/key"},
    ],
)
def test_what_fits_together_is_taken(options):
    KafkaSettings.model_validate(options)


def test_a_problem_is_reported_once_where_another_option_is_wrong_itself():
    with pytest.raises(ValidationError) as caught:
        KafkaSettings.model_validate({"session_timeout_ms": "soon"})
    assert caught.value.error_count() == 1


def test_passwords_do_not_print():
    settings = KafkaSettings.model_validate({**SASL, "sasl_username": "me", "sasl_password": "hunter2"})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_one_topic_cannot_serve_two_purposes():
    with pytest.raises(ValidationError, match="features and dlq must be different topics"):
        TopicSettings(dlq="streamd.features")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 250])
def test_a_topic_has_a_name_that_kafka_takes(name):
    with pytest.raises(ValidationError):
        TopicSettings(alerts=name)
