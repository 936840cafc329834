"""The options of the rules: a preset, and what is different from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from streamd.rules.base import RuleConfig
from streamd.rules.presets import PRESETS, PresetName
from streamd.rules.registry import AnyRuleConfig
from streamd.settings import Settings

RuleName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class RulesSettings(Settings):
    """How a training run is judged, and what may be asked of it."""

    preset: PresetName = "streamd"
    """The set of rules to start from: streamd, sagemaker-debugger, wandb, olmo, lightning, llm-foundry, megatron, palm;
    none: those of `changes` alone."""

    changes: dict[RuleName, AnyRuleConfig | None] = Field(default={})
    """Rules by name, merged key by key over the preset's; null switches one off. `type` says which one a name
    that the preset does not have is, and is the name unless given."""

    resolve_after: int = Field(default=5, ge=1)
    """Judgements in a row that found nothing, which end an alert: more than for batches, since steps follow fast."""

    rollbacks_max: int = Field(default=3, ge=0)
    """Roll-backs that one run may be asked for in all: what three did not mend, a fourth does not."""

    silence_seconds: float | None = Field(default=1800.0, gt=0)
    """No telemetry for so long is a finding: the run hangs, or has died. One that said that it is over is never silent.
    Null: never."""

    def running(self) -> dict[str, RuleConfig]:
        """The rules that are in force, by name."""
        merged = {**PRESETS[self.preset], **self.changes}
        return {name: config for name, config in merged.items() if config is not None}

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, data: Any) -> Any:
        """Lay each change over the preset's rule of that name, unless it is of another type."""
        if not isinstance(data, Mapping) or not isinstance(changes := data.get("changes"), Mapping):
            return data
        preset = data.get("preset", cls.model_fields["preset"].default)
        base = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        return {**data, "changes": {name: _merged(name, value, base.get(str(name))) for name, value in changes.items()}}

    @field_validator("changes")
    @classmethod
    def _named(cls, changes: dict[str, RuleConfig | None]) -> dict[str, RuleConfig | None]:
        if len(changes) > 100:
            raise ValueError("at most 100 rules: each costs time at every step of every run")
        return changes


def _merged(name: Any, value: Any, preset: RuleConfig | None) -> Any:
    if isinstance(value, RuleConfig):
        value = {"type": value.model_dump()["type"], **value.model_dump(exclude_unset=True)}
    if not isinstance(value, Mapping):
        return value
    if preset is None:
        return {"type": name, **value}
    kind = preset.model_dump()["type"]
    return (
        {**preset.model_dump(exclude_unset=True), "type": kind, **value} if value.get("type", kind) == kind else value
    )
