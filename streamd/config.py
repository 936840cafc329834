"""The whole configuration as one frozen, validated value. config_loading makes it from a file and the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, SecretStr, StringConstraints, model_validator

from streamd.codec.limits import Limits
from streamd.detectors.base import DetectorConfig
from streamd.detectors.registry import DEFAULT_DETECTORS, AnyDetectorConfig
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.observe.settings import AdminSettings, LogSettings, MetricSettings
from streamd.policy import PolicySettings
from streamd.rules.settings import RulesSettings
from streamd.settings import Settings
from streamd.transport.settings import KafkaSettings, TopicSettings

# The name is a metric's label, part of a key in snapshots, and part of a variable's name.
DetectorName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Detectors = dict[DetectorName, AnyDetectorConfig | None]

DETECTOR_TYPES: Mapping[str, type[DetectorConfig]] = {
    get_args(config.model_fields["type"].annotation)[0]: config for config in get_args(get_args(AnyDetectorConfig)[0])
}
"""`type` in the configuration -> its Config."""


class StreamRule(Settings):
    """What is different for some streams. It inherits the top level's settings and changes those that it names."""

    match: str = Field(min_length=1)
    """A stream's name, or a pattern: `*` any characters, `/` included, `?` one, `[ab]` one of them."""

    detectors: Detectors = Field(default={})
    """By name, merged key by key over the top level's; null switches one off."""

    reference: ReferenceSettings = ReferenceSettings()
    """Merged key by key over the top level's."""

    policy: PolicySettings = PolicySettings()
    """Merged key by key over the top level's."""

    rules: RulesSettings = RulesSettings()
    """Merged key by key over the top level's; for training runs, whose names `match` is held against as well."""

    def applies_to(self, stream: str) -> bool:
        return self.match == stream or fnmatchcase(stream, self.match)


class Config(Settings):
    """Everything that can be configured. Every key has a default, so no file is needed."""

    kafka: KafkaSettings = KafkaSettings()
    """The connection, the consumer group and the producer."""

    topics: TopicSettings = TopicSettings()
    """The names of the topics."""

    limits: Limits = Limits()
    """What a producer may send; more becomes a dead letter."""

    detectors: Detectors = Field(default={})
    """By name; `type` says which one it is, and is the name unless given. Merged over the default set
    (ks, chi2, entropy, zscore, quality, autoencoder); null switches one off."""

    reference: ReferenceSettings = ReferenceSettings()
    """Where a stream's reference comes from when no reference batches are sent."""

    policy: PolicySettings = PolicySettings()
    """When a finding becomes an alert, when it ends, and what is asked for."""

    rules: RulesSettings = RulesSettings()
    """How training runs are judged, which come on topics.telemetry."""

    engine: EngineSettings = EngineSettings()
    """Bounds of what one partition's engine holds."""

    streams: tuple[StreamRule, ...] = ()
    """What is different for some streams. The first rule that matches a stream's name is the only one that applies."""

    workers: int = Field(default=1, ge=1, le=256)
    """Processes that share the partitions: one keeps one core busy. More than partitions have nothing to do."""

    admin: AdminSettings = AdminSettings()
    """Where metrics, health and the live page are served."""

    log: LogSettings = LogSettings()
    """What is logged, and how."""

    metrics: MetricSettings = MetricSettings()
    """Caps on label values."""

    def for_stream(self, name: str) -> StreamSettings:
        """What applies to the stream `name`: equal rules give the very same object."""
        for rule, settings in self.settings_by_rule:
            if rule is None or rule.applies_to(name):
                return settings
        raise AssertionError("the last rule applies to every stream")

    def secrets(self) -> list[str]:
        """Every secret in plain text, so that the log can keep each out of its lines."""
        return list(_secrets(self))

    @cached_property
    def settings_by_rule(self) -> tuple[tuple[StreamRule | None, StreamSettings], ...]:
        """Each rule with its settings, in order; the last is None, for the streams that no rule matches."""
        whole = _settings(self.detectors, self.reference, self.policy, self.rules)
        each = ((rule, _settings(rule.detectors, rule.reference, rule.policy, rule.rules)) for rule in self.streams)
        return (*each, (None, whole))

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, data: Any) -> Any:
        """Fill in the default detectors, then what each stream rule inherits. What has a wrong type is left alone."""
        if not isinstance(data, Mapping):
            return data
        whole = {**data, "detectors": _with_defaults(data.get("detectors", {}))}
        if isinstance(rules := data.get("streams"), list | tuple):
            whole["streams"] = [_inherited(_plain(rule), whole) for rule in rules]
        return whole

    @model_validator(mode="after")
    def _every_rule_can_apply(self) -> Self:
        seen: dict[str, int] = {}
        for i, rule in enumerate(self.streams):
            if rule.match in seen:
                raise ValueError(
                    f"streams.{i} would never apply: streams.{seen[rule.match]} matches {rule.match!r} before it"
                )
            seen[rule.match] = i
        return self


def _secrets(settings: BaseModel) -> Iterator[str]:
    for _, value in settings:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value)


def _settings(
    detectors: Detectors, reference: ReferenceSettings, policy: PolicySettings, rules: RulesSettings
) -> StreamSettings:
    running = {name: config for name, config in detectors.items() if config is not None}
    # Only a default that nobody named has no field set: see _with_defaults.
    unasked = frozenset(name for name, config in running.items() if not config.model_fields_set)
    return StreamSettings(running, reference, policy, unasked, rules)


def _with_defaults(detectors: Any) -> Any:
    """The default set with `detectors` over it; those that nobody named are ready-made Configs."""
    detectors = _named(detectors)
    if not isinstance(detectors, Mapping):
        return detectors
    return {**{name: DETECTOR_TYPES[name]() for name in DEFAULT_DETECTORS}, **detectors}


def _named(detectors: Any) -> Any:
    """Give each detector without a `type` its name as its type."""
    if not isinstance(detectors, Mapping):
        return detectors
    return {name: _typed(name, _plain(value)) for name, value in detectors.items()}


def _typed(name: Any, value: Any) -> Any:
    return {"type": name, **value} if isinstance(value, Mapping) else value


def _inherited(rule: Any, whole: Mapping[str, Any]) -> Any:
    """The stream rule with everything that it takes over from the top level."""
    if not isinstance(rule, Mapping):
        return rule
    merged = dict(rule)
    merged["detectors"] = _merge_detectors(whole["detectors"], _named(rule.get("detectors", {})))
    for key in ("reference", "policy", "rules"):
        merged[key] = _merge(_plain(whole.get(key, {})), _plain(rule.get(key, {})))
    return merged


def _merge_detectors(base: Any, over: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    merged = dict(base)
    for name, value in over.items():
        inherited = base.get(name)
        # Another type under the same name is another detector: it inherits nothing.
        same = isinstance(inherited, Mapping) and isinstance(value, Mapping) and inherited["type"] == value["type"]
        merged[name] = _merge(inherited, value) if same else value
    return merged


def _merge(base: Any, over: Any) -> Any:
    """`over` laid on `base`, mapping by mapping."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    return {**base, **{key: _merge(base.get(key), value) for key, value in over.items()}}


def _plain(value: Any) -> Any:
    """Settings that were built in Python, as what would stand in a file."""
    if isinstance(value, DetectorConfig):
        return {"type": value.model_dump()["type"], **value.model_dump(exclude_unset=True)}
    return value.model_dump(exclude_unset=True) if isinstance(value, Settings) else value
