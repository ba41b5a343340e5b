"""A random walk over imported material, its rotations and its expiry: a small model never disagrees."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from datakeys.contract.errors import IncorrectKeyMaterialError, KeyDisabledError, KeyStateError, KmsError
from keyservice_rig import Rig
from material_rig import DAY, create_external_key, decrypt, import_material, make_task, rotations

#: What can be imported: 32 bytes each, by a name.
NAMES = strategies.sampled_from("abcd")
DAYS = strategies.sampled_from([None, 1, 3, 9])


@dataclass
class Material:
    """What the model knows of one material; ``valid_to`` is None if it doesn't expire."""

    name: str
    material_id: str
    present: bool
    valid_to: float | None
    pending: bool


def attempt(call: Callable[[], object]) -> object:
    """Return a call's answer, or the class of its error."""
    try:
        return call()
    except KmsError as error:
        return type(error)


class MaterialLife(RuleBasedStateMachine):
    """The model: the materials, in order; which one is current; whether somebody disabled the key."""

    @initialize()
    def create(self) -> None:
        """Start with a key that waits for its material."""
        self.rig = Rig()
        self.arn = create_external_key(self.rig)
        self.materials: list[Material] = []
        self.current = ""
        self.disabled = False
        self.on_demand = 0
        self.blobs: dict[str, str] = {}
        self.task = make_task(self.rig)

    def find(self, name: str) -> Material | None:
        """Return the model's material of a name."""
        return next((it for it in self.materials if it.name == name), None)

    def lacking(self) -> bool:
        """Return whether needed material is missing."""
        needed = [it for it in self.materials if not it.pending]
        return not needed or not all(it.present for it in needed)

    def state(self) -> str:
        """Return the state's name."""
        if self.lacking():
            return "PendingImport"
        return "Disabled" if self.disabled else "Enabled"

    def outcome(self, operation: str, **body: object) -> type[KmsError] | None:
        """Run an operation; return its error's class, or None."""
        result = attempt(lambda: self.rig.call(operation, {"KeyId": self.arn, **body}))
        return result if isinstance(result, type) else None

    @rule(name=NAMES, days=DAYS, new=strategies.sampled_from([None, False, True]))
    def bring(self, name: str, days: int | None, *, new: bool | None) -> None:
        """ImportKeyMaterial: anything, as new, as existing, or by default."""
        valid_to = None if days is None else self.rig.clock() + days * DAY
        members: dict[str, object] = {} if valid_to is None else {"ValidTo": valid_to}
        if new is not None:
            members["ImportType"] = "NEW_KEY_MATERIAL" if new else "EXISTING_KEY_MATERIAL"
        known = self.find(name)
        as_new = not self.materials if new is None else new
        expected: type[KmsError] | None = None
        if as_new == (known is not None):
            expected = IncorrectKeyMaterialError
        elif as_new and any(it.pending for it in self.materials):
            expected = KeyStateError
        result = attempt(lambda: import_material(self.rig, self.arn, name.encode() * 32, **members))
        if isinstance(result, str):
            assert expected is None
            self.note(name, result, valid_to)
        else:
            assert result is expected

    def note(self, name: str, material_id: str, valid_to: float | None) -> None:
        """Take a successful import over into the model."""
        was_lacking, known = self.lacking(), self.find(name)
        if known is None:
            known = Material(name, material_id, present=True, valid_to=valid_to, pending=bool(self.materials))
            self.materials.append(known)
            self.current = self.current or material_id
        assert known.material_id == material_id
        known.present, known.valid_to = True, valid_to
        if was_lacking and not self.lacking():
            self.disabled = False

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        """DeleteImportedKeyMaterial of a known material."""
        known = self.find(name)
        if known is not None:
            assert self.outcome("DeleteImportedKeyMaterial", KeyMaterialId=known.material_id) is None
            self.lose(known)

    def lose(self, material: Material) -> None:
        """Take the loss of a material over into the model."""
        if material.pending:
            self.materials.remove(material)
        else:
            material.present = False

    @rule()
    def rotate(self) -> None:
        """RotateKeyOnDemand."""
        state, error = self.state(), self.outcome("RotateKeyOnDemand")
        waiting = next((it for it in self.materials if it.pending), None)
        if state == "Disabled":
            assert error is KeyDisabledError
        elif state == "PendingImport" or waiting is None:
            assert error is KeyStateError
        else:
            assert error is None
            waiting.pending = False
            self.current = waiting.material_id
            self.on_demand += 1

    @rule(enabled=strategies.booleans())
    def switch(self, *, enabled: bool) -> None:
        """EnableKey or DisableKey."""
        error = self.outcome("EnableKey" if enabled else "DisableKey")
        if self.lacking():
            assert error is KeyStateError
        else:
            assert error is None
            self.disabled = not enabled

    @rule(days=strategies.sampled_from([1, 2, 5]))
    def wait(self, days: int) -> None:
        """Let time pass; what expires is gone at once."""
        self.rig.clock.now += days * DAY
        for material in list(self.materials):
            expired = material.valid_to is not None and material.valid_to <= self.rig.clock()
            if material.present and expired:
                self.lose(material)

    @rule()
    def run_task(self) -> None:
        """Write down what has expired; nobody can tell."""
        assert self.task.perform_due() == 0

    @rule()
    def make_data_key(self) -> None:
        """A new data key, under the current material."""
        if self.state() == "Enabled":
            self.blobs[self.rig.data_key(self.arn)] = self.current

    def decrypting_material(self, blob: str) -> str:
        """Return the id of the material that opens a data key."""
        return str(decrypt(self.rig, blob)["KeyMaterialId"])

    @invariant()
    def data_keys_open_exactly_while_enabled(self) -> None:
        """Every data key opens with the material it was made under, or fails as the state says."""
        state = self.state()
        for blob, material_id in self.blobs.items():
            opened = attempt(partial(self.decrypting_material, blob))
            errors = {"Disabled": KeyDisabledError, "PendingImport": KeyStateError}
            assert opened == errors.get(state, material_id)

    @invariant()
    def views_agree(self) -> None:
        """DescribeKey and ListKeyRotations show the model."""
        metadata = self.rig.call("DescribeKey", {"KeyId": self.arn})["KeyMetadata"]
        assert metadata["KeyState"] == self.state()
        assert metadata.get("CurrentKeyMaterialId", "") == self.current
        present = [it for it in self.materials if it.present and not it.pending]
        dates = [it.valid_to for it in present if it.valid_to is not None]
        assert metadata.get("ValidTo") == min(dates, default=None)
        assert ("ExpirationModel" in metadata) is bool(present)
        listed = rotations(self.rig, self.arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")
        assert [(it["KeyMaterialId"], it["ImportState"], it["KeyMaterialState"]) for it in listed] == [
            (it.material_id, "IMPORTED" if it.present else "PENDING_IMPORT", self.material_state(it))
            for it in self.materials
        ]
        assert len(rotations(self.rig, self.arn)) == self.on_demand

    def material_state(self, material: Material) -> str:
        """Return a material's state by name."""
        if material.pending:
            return "PENDING_ROTATION"
        return "CURRENT" if material.material_id == self.current else "NON_CURRENT"


TestMaterialLife = MaterialLife.TestCase
TestMaterialLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
