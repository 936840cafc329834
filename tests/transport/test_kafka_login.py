"""TLS and logins, on a real Kafka that asks for them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from brokers import HOW_TO_GET_KAFKA, RealKafka, kafka_launcher
from cryptography.hazmat.primitives import serialization
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from needs import unavailable

from streamd.errors import ConfigError, TransientError
from streamd.transport import kafka_admin, kafka_auth
from streamd.transport.base import Outgoing
from streamd.transport.kafka import KafkaTransport
from streamd.transport.settings import KafkaSettings, TopicSettings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_MODULES = "org.apache.kafka.common.security"
_LISTENERS = (
    "PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl_ssl},"
    "SASL_PLAINTEXT://127.0.0.1:{sasl_plaintext}"
)
_SETTINGS = (
    f"listeners={_LISTENERS},CONTROLLER://127.0.0.1:{{controller}}",
    f"advertised.listeners={_LISTENERS}",
    "listener.security.protocol.map="
    "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
    "ssl.keystore.type=PEM",
    "ssl.truststore.type=PEM",
    "listener.name.ssl.ssl.client.auth=required",
    "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER",
    f'listener.name.sasl_ssl.plain.sasl.jaas.config={_MODULES}.plain.PlainLoginModule required user_alice="secret";',
    f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;",
    f"listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;",
    f"listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config={_MODULES}.oauthbearer.OAuthBearerLoginModule "
    'required unsecuredLoginStringClaim_sub="alice";',
    "listener.name.sasl_plaintext.sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER",
    "listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
)


class Guarded:
    """The broker, and the files that its clients need."""

    def __init__(self, broker: RealKafka, folder: Path) -> None:
        self.broker = broker
        self.folder = folder

    def settings(self, protocol: str, **more: Any) -> KafkaSettings:
        server = f"127.0.0.1:{self.broker.ports[protocol.lower()]}"
        if protocol.endswith("SSL"):
            more = {"ssl_cafile": self.folder / "ca.pem", **more}
        return KafkaSettings(bootstrap_servers=(server,), security_protocol=protocol, **more)


def _write_key_and_chain(certificate: trustme.LeafCert, path: Path) -> None:
    """One PEM file, with the key in PKCS#8 as Java wants it."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pkcs8 + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    launcher = kafka_launcher()
    if launcher is None:
        unavailable(HOW_TO_GET_KAFKA)
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    _write_key_and_chain(authority.issue_cert("127.0.0.1"), folder / "broker.pem")
    _write_key_and_chain(authority.issue_cert("client@example.org"), folder / "client.pem")
    stores = (f"ssl.keystore.location={folder}/broker.pem", f"ssl.truststore.location={folder}/ca.pem")
    broker = RealKafka(launcher, folder / "data", *_SETTINGS, *stores, more=("ssl", "sasl_ssl", "sasl_plaintext"))
    broker.start()
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion("alice", ScramMechanism.SCRAM_SHA_512, password="secret", iterations=4096)]
    )
    admin.close()
    kafka_admin.create_topics(KafkaSettings(bootstrap_servers=(broker.bootstrap_servers,)), {"t": 1})
    yield Guarded(broker, folder)
    broker.kill()


def _goes_round(settings: KafkaSettings) -> bool:
    """A record goes out and comes back."""
    transport = KafkaTransport(settings.model_copy(update={"group_id": f"g{time.monotonic_ns()}"}), ["t"])
    transport.open()
    mark = b"%d" % time.monotonic_ns()
    transport.deliver([Outgoing("t", None, mark)], {})
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            if any(record.value == mark for record in transport.poll(0.25).records):
                return True
        return False
    finally:
        transport.close()


ALICE = {"sasl_username": "alice", "sasl_password": "secret"}


def _token(subject: str) -> str:
    """A token without signature, which Kafka takes when no validator is configured."""
    now = int(time.time())
    parts = [{"alg": "none"}, {"sub": subject, "iat": now - 5, "exp": now + 3600}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def test_plain_over_tls_carries_records(guarded: Guarded) -> None:
    assert _goes_round(guarded.settings("SASL_SSL", sasl_mechanism="PLAIN", **ALICE))


def test_scram_carries_records_with_and_without_tls(guarded: Guarded) -> None:
    for protocol in ("SASL_SSL", "SASL_PLAINTEXT"):
        assert _goes_round(guarded.settings(protocol, sasl_mechanism="SCRAM-SHA-512", **ALICE))


def test_a_token_from_a_file_carries_records(guarded: Guarded) -> None:
    (guarded.folder / "token").write_text(_token("alice") + "\n")
    oauth = {"token_file": guarded.folder / "token"}
    assert _goes_round(guarded.settings("SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", oauth=oauth))


def test_a_client_certificate_carries_records(guarded: Guarded) -> None:
    assert _goes_round(guarded.settings("SSL", ssl_certfile=guarded.folder / "client.pem"))


@pytest.mark.parametrize(("protocol", "mechanism"), [("SASL_SSL", "PLAIN"), ("SASL_PLAINTEXT", "SCRAM-SHA-512")])
def test_a_wrong_password_is_the_operators_error_and_names_the_user(
    guarded: Guarded, protocol: str, mechanism: str
) -> None:
    wrong = {"sasl_username": "alice", "sasl_password": "guess"}
    settings = guarded.settings(protocol, sasl_mechanism=mechanism, **wrong)
    with pytest.raises(ConfigError, match=f"refuses 'alice' \\({mechanism}\\)") as caught:
        KafkaTransport(settings, ["t"]).open()
    assert "guess" not in str(caught.value)
    assert [(p.stage, p.ok) for p in kafka_admin.probe(settings, TopicSettings())] == [
        ("reach", True),
        ("login", False),
    ]


def test_a_certificate_of_an_unknown_authority_is_the_operators_error(guarded: Guarded) -> None:
    settings = guarded.settings("SASL_SSL", sasl_mechanism="PLAIN", **ALICE, ssl_cafile=guarded.folder / "other-ca.pem")
    with pytest.raises(ConfigError, match=r"ssl_cafile: the certificate of .* is not trusted"):
        KafkaTransport(settings, ["t"]).open()


def test_a_plain_client_at_a_tls_port_is_told_to_look_at_security_protocol(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_auth, "BOOTSTRAP_SECONDS", 1.0)
    settings = KafkaSettings(bootstrap_servers=guarded.settings("SSL").bootstrap_servers)
    with pytest.raises(TransientError, match="is security_protocol PLAINTEXT what this port speaks"):
        KafkaTransport(settings, ["t"]).open()


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"ssl_cafile: .*ca\.pem cannot be used"):
        kafka_auth.tls_context(KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))
