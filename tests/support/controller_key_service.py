"""The management calls of a key service in memory, as the controller's client makes them. Zone: tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller_fakes import KEY_ARN
from datakeys.contract.errors import KmsError
from datakeys.controller.decisions.key_calls import KeyCall, KeyOperation
from datakeys.controller.keyservice_answers import Grant, KeyMetadata, KeyRotation

KEY_ID = KEY_ARN.rpartition("/")[2]
CREATED_SECONDS = 1767225600.0
OFF = KeyRotation(enabled=False)


@dataclass
class FakeKeyManagement:
    """One key: changed by calls, which are remembered; ``errors`` are raised by operation's name.

    Attributes:
        calls: Operation and arguments of every call that isn't a read.
        reads: Operations of the reads.
    """

    key: KeyMetadata = field(
        default_factory=lambda: KeyMetadata(KEY_ID, KEY_ARN, "Enabled", CREATED_SECONDS, None, "ab")
    )
    tags: dict[str, str] = field(default_factory=dict)
    policy: str = "{}"
    rotation: KeyRotation = OFF
    errors: dict[str, KmsError] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[str]:
        """Return the operations that changed the key, or tried to."""
        return [call[1] for call in self.calls if call[0] == "change_key"]

    def set(self, **facts: Any) -> None:
        """Change the key as a call of the API would."""
        self.key = replace(self.key, **facts)

    async def create_key(self, account: str, object_name: str, parameters: object) -> KeyMetadata:
        """Return the one key."""
        del parameters
        self._called("create_key", account, object_name)
        return self.key

    async def describe_key(self, account: str, key_id: str) -> KeyMetadata:
        """Return the one key."""
        del account, key_id
        self._read("DescribeKey")
        return self.key

    async def fetch_tags(self, account: str, key_id: str) -> dict[str, str]:
        """Return the tags."""
        del account, key_id
        self._read("ListResourceTags")
        return dict(self.tags)

    async def fetch_policy(self, account: str, key_id: str) -> str:
        """Return the policy."""
        del account, key_id
        self._read("GetKeyPolicy")
        return self.policy

    async def fetch_rotation(self, account: str, key_id: str) -> KeyRotation:
        """Return the rotation."""
        del account, key_id
        self._read("GetKeyRotationStatus")
        return self.rotation

    async def change_key(self, account: str, key_id: str, call: KeyCall) -> None:
        """Change the key."""
        self.calls.append(("change_key", call.operation.value, account, key_id))
        if call.operation in self.errors:
            raise self.errors[call.operation]
        if call.operation is KeyOperation.ROTATE_KEY_ON_DEMAND:
            self.set(current_key_material_id=f"{self.key.current_key_material_id}'")
        self._apply(call.operation, call.members)

    async def create_grant(self, account: str, object_name: str, parameters: object) -> Grant:
        """Return a grant."""
        del parameters
        self._called("create_grant", account, object_name)
        return Grant("g", "t")

    def __getattr__(self, operation: str) -> Any:
        """Return any operation without an answer."""

        async def call(*arguments: object) -> None:
            self._called(operation, *map(str, arguments))

        return call

    def _apply(self, operation: KeyOperation, members: Mapping[str, Any]) -> None:
        match operation:
            case KeyOperation.ENABLE_KEY:
                self.set(state="Enabled")
            case KeyOperation.DISABLE_KEY:
                self.set(state="Disabled")
            case KeyOperation.UPDATE_KEY_DESCRIPTION:
                self.set(description=members["Description"])
            case KeyOperation.PUT_KEY_POLICY:
                self.policy = members["Policy"]
            case KeyOperation.TAG_RESOURCE:
                self.tags |= {tag["TagKey"]: tag["TagValue"] for tag in members["Tags"]}
            case KeyOperation.UNTAG_RESOURCE:
                for key in members["TagKeys"]:
                    del self.tags[key]
            case KeyOperation.ENABLE_KEY_ROTATION:
                self.rotation = KeyRotation(
                    enabled=True, period_days=members["RotationPeriodInDays"], next_date=CREATED_SECONDS
                )
            case KeyOperation.DISABLE_KEY_ROTATION:
                self.rotation = OFF

    def _read(self, operation: str) -> None:
        self.reads.append(operation)
        if operation in self.errors:
            raise self.errors[operation]

    def _called(self, operation: str, *arguments: str) -> None:
        self.calls.append((operation, *arguments))
        if operation in self.errors:
            raise self.errors[operation]
