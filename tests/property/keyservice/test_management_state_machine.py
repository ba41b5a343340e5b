"""A random walk of management calls over keys, aliases and grants: the service and a small model agree."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from datakeys.contract.errors import AlreadyExistsError, KmsError
from keyservice_rig import Rig

DAY = 86_400
ALIASES = st.sampled_from(["alias/a", "alias/b", "alias/c"])
GRANTEE = "system:serviceaccount:team-a:app"


class Management(RuleBasedStateMachine):
    """The model: each key's state, destruction date and grants; each alias's key."""

    keys = Bundle("keys")

    @initialize()
    def start(self) -> None:
        """Begin with no keys."""
        self.rig = Rig()
        self.states: dict[str, str] = {}
        self.due: dict[str, float] = {}
        self.aliases: dict[str, str] = {}
        self.grants: dict[str, set[str]] = {}

    def call(self, operation: str, **members: Any) -> str:
        """Run an operation; return its error's name, or an empty string."""
        try:
            self.rig.call(operation, members)
        except KmsError as error:
            return error.code
        return ""

    def state(self, key: str) -> str:
        """Return what the model says of a key now."""
        if key in self.due and self.due[key] <= self.rig.clock.now:
            return "gone"
        return self.states[key]

    def change(self, key: str, operation: str, allowed: dict[str, str], **members: Any) -> bool:
        """Check an operation on a key against the states that let it pass; return whether it passed."""
        code, before = self.call(operation, KeyId=key, **members), self.state(key)
        if before == "gone":
            assert code == "NotFoundException"
        elif before in allowed:
            assert code == ""
            self.states[key] = allowed[before]
        else:
            disabled = before == "Disabled"
            assert code == ("DisabledException" if disabled else "KMSInvalidStateException")
        return code == ""

    @rule(target=keys, origin=st.sampled_from(["AWS_KMS", "EXTERNAL"]))
    def create(self, origin: str) -> str:
        """CreateKey."""
        key = self.rig.create_key(Origin=origin)
        self.states[key] = "Enabled" if origin == "AWS_KMS" else "PendingImport"
        self.grants[key] = set()
        return key

    @rule(key=keys, operation=st.sampled_from(["EnableKey", "DisableKey"]))
    def switch(self, key: str, operation: str) -> None:
        """EnableKey, DisableKey."""
        to = "Enabled" if operation == "EnableKey" else "Disabled"
        code, before = self.call(operation, KeyId=key), self.state(key)
        if before in ("Enabled", "Disabled"):
            assert code == ""
            self.states[key] = to
        else:
            assert code == ("NotFoundException" if before == "gone" else "KMSInvalidStateException")

    @rule(key=keys, days=st.integers(7, 30))
    def schedule(self, key: str, days: int) -> None:
        """ScheduleKeyDeletion."""
        before = self.state(key)
        if before == "PendingDeletion":
            assert self.call("ScheduleKeyDeletion", KeyId=key) == "KMSInvalidStateException"
            return
        if self.change(
            key,
            "ScheduleKeyDeletion",
            dict.fromkeys(("Enabled", "Disabled", "PendingImport"), "PendingDeletion"),
            PendingWindowInDays=days,
        ):
            self.due[key] = self.rig.clock.now + days * DAY

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        """CancelKeyDeletion: never straight to Enabled; to PendingImport if there is no material."""
        before = self.state(key)
        code = self.call("CancelKeyDeletion", KeyId=key)
        if before == "PendingDeletion":
            assert code == ""
            del self.due[key]
            record = self.rig.store.find_key(key.rpartition("/")[2])
            assert record is not None
            self.states[key] = "Disabled" if record.materials else "PendingImport"
        else:
            assert code == ("NotFoundException" if before == "gone" else "KMSInvalidStateException")

    @rule(key=keys, name=ALIASES)
    def create_alias(self, key: str, name: str) -> None:
        """CreateAlias: one name, one key; not for a key that is pending deletion."""
        code, state = self.call("CreateAlias", AliasName=name, TargetKeyId=key), self.state(key)
        if state == "gone":
            assert code == "NotFoundException"
        elif state == "PendingDeletion":
            assert code == "KMSInvalidStateException"
        elif name in self.aliases:
            assert code == AlreadyExistsError.code
        else:
            assert code == ""
            self.aliases[name] = key

    @rule(name=ALIASES)
    def delete_alias(self, name: str) -> None:
        """DeleteAlias, in every state of its key."""
        assert self.call("DeleteAlias", AliasName=name) == (
            "" if name in self.aliases else "NotFoundException"
        )
        self.aliases.pop(name, None)

    @rule(key=keys)
    def create_grant(self, key: str) -> None:
        """CreateGrant: only on an enabled key."""
        grant = {"GranteePrincipal": GRANTEE, "Operations": ["Encrypt"]}
        if self.change(key, "CreateGrant", {"Enabled": "Enabled"}, **grant):
            listed = self.rig.call("ListGrants", {"KeyId": key})["Grants"]
            assert len(listed) == len(self.grants[key]) + 1
            self.grants[key] = {entry["GrantId"] for entry in listed}

    @rule(key=keys)
    def revoke_grant(self, key: str) -> None:
        """RevokeGrant, in every state."""
        if self.grants[key] and self.state(key) != "gone":
            grant = min(self.grants[key])
            assert self.call("RevokeGrant", KeyId=key, GrantId=grant) == ""
            self.grants[key].remove(grant)

    @rule(days=st.integers(1, 20))
    def wait(self, days: int) -> None:
        """Let days pass; what is due is gone with all that belongs to it."""
        self.rig.clock.now += days * DAY

    @invariant()
    def views_agree(self) -> None:
        """DescribeKey, ListGrants and the aliases of every key say what the model says."""
        for key in self.states:
            state = self.state(key)
            if state == "gone":
                assert self.call("DescribeKey", KeyId=key) == "NotFoundException"
                continue
            metadata = self.rig.call("DescribeKey", {"KeyId": key})["KeyMetadata"]
            assert metadata["KeyState"] == state
            assert metadata.get("DeletionDate") == self.due.get(key)
            grants = self.rig.call("ListGrants", {"KeyId": key})["Grants"]
            assert {entry["GrantId"] for entry in grants} == self.grants[key]
        for name, key in self.aliases.items():
            expected = "NotFoundException" if self.state(key) == "gone" else ""
            assert self.call("DescribeKey", KeyId=name) == expected


TestManagement = Management.TestCase
TestManagement.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
