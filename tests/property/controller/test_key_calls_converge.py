"""Whatever a KmsKey says, says no more and never said: the calls bring the key there and then end."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller_key_service import FakeKeyManagement
from datakeys.controller.decisions.key_calls import ActualKey, KeyOperation, decide_key_calls
from datakeys.controller.keyservice_answers import KeyRotation

TAGS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "1", "2"]), max_size=4)
ROTATIONS = st.fixed_dictionaries(
    {"enabled": st.booleans()}, optional={"periodDays": st.sampled_from([90, 365])}
)
SPECS = st.fixed_dictionaries(
    {"enabled": st.booleans()},
    optional={
        "description": st.sampled_from(["", "one", "two"]),
        "tags": TAGS,
        "policy": st.sampled_from(['{"a": 1}', '{"a":1}', '{"b": 2}']),
        "rotation": ROTATIONS,
    },
)


@st.composite
def keys(draw: st.DrawFn) -> FakeKeyManagement:
    """Return a key in a state in which anybody may have left it."""
    key = FakeKeyManagement(tags=draw(TAGS), policy=draw(st.sampled_from(["{}", '{"a": 1}'])))
    key.set(
        state=draw(st.sampled_from(["Enabled", "Disabled"])),
        description=draw(st.sampled_from(["", "one", "by call"])),
    )
    days = draw(st.sampled_from([0, 90, 100]))
    key.rotation = KeyRotation(enabled=days > 0, period_days=days or None)
    return key


def look(key: FakeKeyManagement) -> ActualKey:
    """Return the key as the controller reads it."""
    days = (key.rotation.period_days or 0) if key.rotation.enabled else 0
    return ActualKey(key.key.state, key.key.description, dict(key.tags), key.policy, days)


def apply(key: FakeKeyManagement, spec: dict[str, Any], former: dict[str, Any]) -> list[KeyOperation]:
    """Make the calls; a rotation is refused while the key is disabled, as the key service does."""
    calls = decide_key_calls("shop", spec, former, look(key))
    for call in calls:
        if call.operation in (KeyOperation.ENABLE_KEY_ROTATION, KeyOperation.DISABLE_KEY_ROTATION):
            assert key.key.state == "Enabled"
        key._apply(call.operation, call.members)
    return [call.operation for call in calls]


@given(keys(), SPECS, SPECS)
def test_calls_bring_the_key_to_its_spec(
    key: FakeKeyManagement, former: dict[str, Any], spec: dict[str, Any]
) -> None:
    """After the calls the key is what the spec says, foreign tags stay, and a second look needs no call."""
    if key.key.state == "Disabled" and not spec["enabled"]:
        key.set(state="Enabled")  # the rotation of a disabled key can't be changed: told as Synced=False
    before = look(key)
    apply(key, spec, former)
    assert apply(key, spec, former) == []
    after = look(key)
    assert after.state == ("Enabled" if spec["enabled"] else "Disabled")
    if "description" in spec:
        assert after.description == spec["description"]
    wanted, gone = spec.get("tags") or {}, set(former.get("tags") or {})
    foreign = {name: value for name, value in (before.tags or {}).items() if name not in gone}
    assert after.tags == foreign | wanted
    if "rotation" in spec:
        rotation = spec["rotation"]
        assert after.rotation_days == (rotation.get("periodDays", 365) if rotation["enabled"] else 0)


@given(keys(), SPECS)
def test_settings_that_no_spec_has_named_stay(key: FakeKeyManagement, spec: dict[str, Any]) -> None:
    """A spec that has only ever said whether the key is enabled changes nothing else."""
    before = look(key)
    apply(key, {"enabled": spec["enabled"]}, {"enabled": True})
    after = look(key)
    assert (after.description, after.tags, after.policy, after.rotation_days) == (
        before.description,
        before.tags,
        before.policy,
        before.rotation_days,
    )
