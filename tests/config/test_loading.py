"""From a file and variables to a Config: values, origins, and every problem with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.config import Config
from streamd.config_loading import LoadedConfig, load, problems_of_file
from streamd.errors import ConfigError


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes text to `s.yaml` in the working directory and returns its path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("s.yaml").write_text(text, encoding="utf-8")
        return Path("s.yaml")

    return write


def problems(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return list(caught.value.problems)


def test_nothing_at_all_is_the_default():
    assert load(None, {}).config == Config()
    assert set(load(None, {}).origins.values()) == {"default"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff", "kafka: {}\n"])
def test_a_file_that_says_nothing_is_the_default(written, text):
    assert load(written(text), {}).config == Config()


def test_each_value_knows_its_origin(written):
    path = written("kafka:\n  group_id: a\n  partitions: 3\ndetectors:\n  ks:\n    window_rows: 50\n")
    origins = load(path, {"STREAMD_KAFKA__PARTITIONS": "5"}).origins
    assert origins["kafka.group_id"] == "s.yaml:2"
    assert origins["kafka.partitions"] == "env STREAMD_KAFKA__PARTITIONS"
    assert origins["detectors.ks.window_rows"] == "s.yaml:6"
    assert origins["kafka.client_id"] == "default"


def test_what_a_stream_rule_inherits_has_the_origin_of_the_top_level(written):
    text = "detectors: {ks: {window_rows: 50}}\nstreams:\n  - match: a\n    detectors:\n      ks: {seed: 3}\n"
    origins = load(written(text), {}).origins
    assert origins["streams.0.detectors.ks.window_rows"] == "s.yaml:1"
    assert origins["streams.0.detectors.ks.seed"] == "s.yaml:5"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # --- Syntax
        ("kafka:\n\tgroup_id: a\n", "s.yaml:2:1: a tab cannot indent in YAML; use spaces"),
        ("kafka: [1,\n", "s.yaml:2:1: expected the node content, but found '<stream end>' (while parsing a flow node)"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1: one document is expected; `---` starts another"),
        ("- a\n", "s.yaml:1:1: the file must hold `key: value` lines"),
        ("just text\n", "s.yaml:1:1: the file must hold `key: value` lines"),
        ("log:\n  level: a\0b\n", "s.yaml:2:11: the character U+0000 is not allowed in YAML"),
        (
            "log: {level: !!python/name:os.system x}\n",
            "s.yaml:1:14 log.level: the tag tag:yaml.org,2002:python/",
        ),
        ("kafka: &a {oauth: *a}\n", "s.yaml:1:8 kafka.oauth: an alias may not contain itself"),
        ("? [a, b]\n: 1\n", "s.yaml:1:3: a key must be a single word"),
        # --- Keys
        ("kafka:\n  group_id: a\n  group_id: b\n", "s.yaml:3:3 kafka.group_id: is given twice; first in line 2"),
        ("log:\n  levle: info\n", "s.yaml:2:3 log.levle: no such key; did you mean level?"),
        ("log:\n  q: info\n", "s.yaml:2:3 log.q: no such key; there are format, level"),
        (
            "bootstrap_servers: a:1\n",
            "s.yaml:1:1 bootstrap_servers: no such key; did you mean kafka.bootstrap",
        ),
        ("detectors:\n  ks: {rows: 3}\n", "s.yaml:2:8 detectors.ks.rows: no such key; did you mean window_rows?"),
        ("streams:\n  - match: a\n    macth: b\n", "s.yaml:3:5 streams.0.macth: no such key; did you mean match?"),
        ("streams:\n  - policy: {}\n", "s.yaml:2:5 streams.0.match: is missing"),
        ("detectors:\n  a/b: {type: ks}\n", "s.yaml:2:3 detectors.a/b: cannot be a detector's name"),
        # --- Values
        ("kafka:\n  partitions: x\n", "s.yaml:2:15 kafka.partitions: must be a whole number, is 'x'"),
        ("kafka:\n  partitions: 1.5\n", "s.yaml:2:15 kafka.partitions: must be a whole number, is 1.5"),
        ("kafka:\n  partitions: 0\n", "s.yaml:2:15 kafka.partitions: must be at least 1, is 0"),
        ("kafka:\n  group_id: null\n", "s.yaml:2:13 kafka.group_id: must be text, is null"),
        ("kafka:\n  create_topics: 7\n", "s.yaml:2:18 kafka.create_topics: must be true or false, is 7"),
        ("kafka: 7\n", "s.yaml:1:8 kafka: must hold keys of its own, is 7"),
        ("detectors: [ks]\n", "s.yaml:1:12 detectors: must hold keys of its own, is a list"),
        ("streams: {match: a}\n", "s.yaml:1:1 streams: must be a list, is a mapping"),
        ("detectors:\n  ks: 3\n", "s.yaml:2:7 detectors.ks: must hold keys of its own, is 3"),
        (
            "detectors:\n  k: {type: kss}\n",
            "s.yaml:2:13 detectors.k: there is no detector of type 'kss'; there are",
        ),
        ("policy:\n  warning_p_value: .nan\n", "s.yaml:2:20 policy.warning_p_value: must be a finite number, is nan"),
        (
            "log:\n  level: Warn\n",
            "s.yaml:2:10 log.level: must be 'debug', 'info', 'warning' or 'error', is 'Warn'; did you mean warning?",
        ),
        # --- Values that do not fit together: the place of what is written, not of what is missing
        (
            "kafka:\n  client_id: x\n  delivery_timeout_ms: 20000\n",
            "s.yaml:3:24 kafka.transaction_timeout_ms: must be greater than delivery_timeout_ms (20000), is 10000",
        ),
        (
            "topics:\n  alerts: a\n  dlq: a\n",
            "s.yaml:2:11 topics: alerts and dlq must be different topics, all are 'a'",
        ),
    ],
)
def test_a_problem_is_told_with_its_place(written, text, problem):
    found = problems(written(text))
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_all_problems_are_told_at_once_in_the_order_of_the_file(written):
    found = problems(written("log:\n  level: 1\n  x: 1\nadmin:\n  port: -1\n"), {"STREAMD_LOG__FORMAT": "xml"})
    assert [line.partition(": ")[0] for line in found] == [
        "s.yaml:2:10 log.level",
        "s.yaml:3:3 log.x",
        "s.yaml:5:9 admin.port",
        "STREAMD_LOG__FORMAT",
    ]


def test_what_a_stream_rule_inherits_wrongly_is_told_once(written):
    found = problems(written("detectors: {ks: {window_rows: 1}}\nstreams: [{match: a}, {match: b}]\n"))
    assert found == ["s.yaml:1:31 detectors.ks.window_rows: must be at least 2, is 1"]


def test_a_file_that_is_not_there_is_a_problem_of_the_configuration(tmp_path):
    assert problems(tmp_path / "no.yaml") == [f"{tmp_path / 'no.yaml'}: cannot be read: No such file or directory"]


def test_a_file_that_is_not_utf8_is_named_with_the_byte(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"log: \xff")
    assert problems(path) == [f"{path}: is not UTF-8: byte 5 is 0xff"]


@pytest.mark.parametrize(
    ("written_as", "text"),
    [("0123", "0123"), ("true", "true"), ("1e3", "1e3"), ("no", "no"), ("12:30", "12:30"), ("'null'", "null")],
)
def test_where_text_is_wanted_a_scalar_is_its_text(written, written_as, text):
    assert load(written(f"kafka:\n  group_id: {written_as}\n"), {}).config.kafka.group_id == text


def test_a_number_without_a_point_may_have_an_exponent(written):
    assert load(written("policy:\n  warning_p_value: 1e-4\n"), {}).config.policy.warning_p_value == 1e-4


def test_anchors_and_merge_keys_work_and_own_keys_win(written):
    text = (
        "streams:\n  - match: a\n    policy: &calm {critical_after: 9, resolve_after: 7}\n"
        "  - match: b\n    policy: {critical_after: 8, <<: *calm, mode: enforce}\n"
    )
    policy = load(written(text), {}).config.for_stream("b").policy
    assert (policy.critical_after, policy.resolve_after, policy.mode) == (8, 7, "enforce")


def test_a_byte_order_mark_is_no_column(written):
    assert problems(written("\ufeffkakfa: {}\n")) == ["s.yaml:1:1 kakfa: no such key; did you mean kafka?"]


# --- ${…} -----------------------------------------------------------------------------------------


def loaded(path: Path, **environ: str) -> LoadedConfig:
    return load(path, environ)


def test_variables_and_files_are_looked_up_in_texts(written, tmp_path):
    (tmp_path / "secret").write_text("p:ä#1\n", encoding="utf-8")
    text = (
        "kafka:\n  bootstrap_servers: ['${env:HOST}:${env:PORT:-9092}']\n"
        f"  group_id: 'a$${{b}}'\n  client_id: ${{file:{tmp_path}/secret}}\n  partitions: ${{env:N}}\n"
    )
    kafka = loaded(written(text), HOST="broker", N="7").config.kafka
    assert kafka.bootstrap_servers == ("broker:9092",)
    assert kafka.group_id == "a${b}"
    assert kafka.client_id == "p:ä#1"
    assert kafka.partitions == 7


def test_an_empty_variable_takes_the_default_where_there_is_one(written):
    assert loaded(written("kafka: {group_id: '${env:G:-x}'}"), G="").config.kafka.group_id == "x"


def test_what_was_looked_up_is_not_looked_up_again(written):
    assert loaded(written("kafka: {group_id: '${env:G}'}"), G="${env:H}").config.kafka.group_id == "${env:H}"


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("${env:NOPE}", "the variable NOPE is not set; set it, or give a default: ${env:NOPE:-…}"),
        ("${file:/no/such}", "cannot read /no/such: No such file or directory"),
        ("${NOPE}", "write ${env:NAME}, ${env:NAME:-default} or ${file:/path}; $${ stands for a plain ${"),
        ("${env:NOPE", "write ${env:NAME}, ${env:NAME:-default} or ${file:/path}; $${ stands for a plain ${"),
    ],
)
def test_what_cannot_be_looked_up_is_told_with_its_place(written, reference, problem):
    assert problems(written(f"kafka:\n  group_id: '{reference}'\n")) == [f"s.yaml:2:13 kafka.group_id: {problem}"]


def test_a_file_by_itself_is_checked_without_looking_anything_up(written):
    assert problems_of_file(written("kafka: {partitions: '${env:N}', group_id: '${file:/no}'}")) == []
    assert problems_of_file(written("kafka: {partitions: '${env:N}', group: a}")) != []
    assert problems_of_file(written("kafka: {group_id: '${nope}'}")) != []


# --- Secrets --------------------------------------------------------------------------------------

SECRET = "hunter2-is-secret"


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {sasl_password: %s}",  # without a mechanism
        "kafka: {sasl_pasword: %s}",
        "kafka: {sasl_password: [%s]}",
        "kafka: {oauth: {token: {a: %s}}}",
        "kafka: {ssl_key_password: {%s: 1}}",
        "kafka: {partitions: '${env:SECRET}'}",
        "kafka: {bootstrap_servers: '${env:SECRET}'}",
        "log: {level: '${env:SECRET}'}",
        "topics: {alerts: 'no good ${env:SECRET}'}",
    ],
)
def test_no_problem_tells_a_secret(written, text):
    path = written(text.replace("%s", SECRET))
    with pytest.raises(ConfigError) as caught:
        load(path, {"SECRET": SECRET})
    error: BaseException | None = caught.value
    while error is not None:
        if not text.startswith("kafka: {ssl_key_password"):  # there the secret was written as a key
            assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_loaded_secret_does_not_print(written):
    login = "security_protocol: SASL_SSL, sasl_mechanism: PLAIN, sasl_username: me"
    result = load(written(f"kafka: {{{login}, sasl_password: {SECRET}}}"), {})
    assert SECRET not in f"{result!r} {result.config!r} {result.config.model_dump_json()} {result.origins}"
    assert result.config.kafka.sasl_password is not None
    assert result.config.kafka.sasl_password.get_secret_value() == SECRET
