"""A random walk over a key's life: the service and a small model never disagree."""

import base64

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from datakeys.contract.errors import (
    AccessDeniedError,
    KeyDisabledError,
    KeyStateError,
    KmsError,
    NotFoundError,
)
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.store.schedule import ScheduledTask
from keyservice_rig import Rig, bound, pod

DAY = 86_400


class KeyLife(RuleBasedStateMachine):
    """The model is the state's name, the deletion date, and the data keys that were made."""

    @initialize()
    def create(self) -> None:
        """Start with an enabled key."""
        self.rig = Rig()
        self.arn = self.rig.create_key()
        self.state = "Enabled"
        self.deletion_at: float | None = None
        self.blobs: dict[str, str] = {}
        chores = build_chores(self.rig.service)
        self.task = ScheduledTask(self.rig.store, None, self.rig.clock, chores)  # type: ignore[arg-type]

    def outcome(self, operation: str, **body: object) -> type[KmsError] | None:
        """Run an operation; return its error's class, or None."""
        try:
            self.rig.call(operation, {"KeyId": self.arn, **body})
        except KmsError as error:
            return type(error)
        return None

    def expect(self, operation: str, allowed: dict[str, str]) -> None:
        """Check an operation against the states that allow it and the states it leads to."""
        error = self.outcome(operation)
        if self.state == "gone":
            assert error is NotFoundError
        elif self.state in allowed:
            assert error is None
            self.state = allowed[self.state]
        else:
            assert error is KeyStateError

    @rule()
    def enable(self) -> None:
        """EnableKey."""
        self.expect("EnableKey", {"Enabled": "Enabled", "Disabled": "Enabled"})

    @rule()
    def disable(self) -> None:
        """DisableKey."""
        self.expect("DisableKey", {"Enabled": "Disabled", "Disabled": "Disabled"})

    @rule()
    def schedule(self) -> None:
        """ScheduleKeyDeletion of thirty days."""
        before = self.state
        self.expect("ScheduleKeyDeletion", {"Enabled": "PendingDeletion", "Disabled": "PendingDeletion"})
        if before in ("Enabled", "Disabled"):
            self.deletion_at = self.rig.clock.now + 30 * DAY

    @rule()
    def cancel(self) -> None:
        """CancelKeyDeletion."""
        self.expect("CancelKeyDeletion", {"PendingDeletion": "Disabled"})
        if self.state == "Disabled":
            self.deletion_at = None

    @rule()
    def wait(self) -> None:
        """Let eleven days pass; the task runs or not."""
        self.rig.clock.now += 11 * DAY
        if self.deletion_at is not None and self.deletion_at <= self.rig.clock.now:
            self.state = "gone"

    @rule()
    def run_task(self) -> None:
        """Destroy what is due."""
        self.task.perform_due()

    @precondition(lambda self: self.state == "Enabled")
    @rule()
    def make_data_key(self) -> None:
        """A new data key, whose plaintext is looked up once."""
        blob = self.rig.data_key(self.arn)
        self.blobs[blob] = self.decrypt(blob)

    def decrypt(self, blob: str) -> str:
        """Return the plaintext's base64."""
        answer = self.rig.call("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound()}, by=pod())
        assert len(base64.b64decode(answer["Plaintext"])) == 32
        return str(answer["Plaintext"])

    @invariant()
    def old_data_keys_open_exactly_while_enabled(self) -> None:
        """Every data key decrypts to what it was, or fails as its state says."""
        errors = {"Disabled": KeyDisabledError, "PendingDeletion": KeyStateError, "gone": AccessDeniedError}
        for blob, plaintext in self.blobs.items():
            if self.state == "Enabled":
                assert self.decrypt(blob) == plaintext
                continue
            try:
                self.decrypt(blob)
            except errors[self.state]:
                continue
            raise AssertionError(self.state)

    @invariant()
    def metadata_agrees(self) -> None:
        """DescribeKey shows the model's state."""
        if self.state == "gone":
            assert self.outcome("DescribeKey") is NotFoundError
            return
        metadata = self.rig.call("DescribeKey", {"KeyId": self.arn})["KeyMetadata"]
        assert metadata["KeyState"] == self.state
        assert metadata["Enabled"] is (self.state == "Enabled")
        assert metadata.get("DeletionDate") == self.deletion_at


TestKeyLife = KeyLife.TestCase
TestKeyLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
