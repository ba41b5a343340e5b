"""Rotate a key, and see how far its re-encryption is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from datakeys.kubectl.answers import UserError
from datakeys.kubectl.arguments import parse_arguments
from datakeys.kubectl.output import Console
from datakeys.kubectl.paths import DATAKEYS, build_path
from datakeys.kubectl.rotate.command import run_rotate
from datakeys.kubectl.rotate.plan import build_rotation_patch, build_rotation_token
from datakeys.kubectl.rotate.progress import Progress, build_bar, describe
from datakeys.kubectl.rotate.stages import Asked, Stage, Step, decide_stage
from kubectl_objects import NAMESPACE, FakeKubectl, build_condition, build_console, build_key

TOKEN = "token-1"
NEW, OLD = "b" * 64, "a" * 64


def rotated(phase: str = "", material: str = NEW, **counts: int) -> dict[str, Any]:
    """Return a key that was rotated, and whose data keys are being re-encrypted."""
    key = build_key(reEncryption={"enabled": True})
    key["status"] |= {"currentKeyMaterialId": NEW, "onDemandRotation": {"request": TOKEN}}
    if phase:
        key["status"]["reEncryption"] = {"phase": phase, "keyMaterialId": material, **counts}
    return key


def failing(reason: str, generation: int) -> dict[str, Any]:
    """Return a key whose spec couldn't be applied."""
    key = build_key()
    key["status"]["conditions"] = [
        {**build_condition("False", reason, "not now", observedGeneration=generation), "type": "Synced"}
    ]
    return key


@pytest.mark.parametrize(
    ("key", "stage"),
    [
        (build_key(), Stage(Step.ROTATING)),
        (rotated(), Stage(Step.RE_ENCRYPTING)),
        # The campaign for the material before says nothing about this one.
        (rotated("Complete", OLD, done=5, total=5), Stage(Step.RE_ENCRYPTING)),
        (rotated("Running", done=1, total=5, failed=1), Stage(Step.RE_ENCRYPTING, 1, 5, 1)),
        (rotated("Paused", done=1, total=5), Stage(Step.PAUSED, 1, 5)),
        (rotated("Waiting", done=4, total=5, failed=1), Stage(Step.WAITING, 4, 5, 1)),
        (rotated("Complete", done=5, total=5), Stage(Step.DONE, 5, 5)),
        (failing("LimitExceededException", 2), Stage(Step.FAILED, message="LimitExceededException: not now")),
        (failing("Retrying", 2), Stage(Step.ROTATING)),
        # What failed before this change of the spec isn't about it.
        (failing("LimitExceededException", 1), Stage(Step.ROTATING)),
    ],
)
def test_status_tells_how_far_it_is(key: dict[str, Any], stage: Stage) -> None:
    """Generation 2 is the one that asked for the rotation."""
    assert decide_stage(key, Asked(TOKEN, OLD, 2)) == stage


def test_without_re_encryption_it_ends_with_the_rotation() -> None:
    """Old ciphertext decrypts for ever."""
    key = build_key()
    key["status"]["onDemandRotation"] = {"request": TOKEN}
    assert decide_stage(key, Asked(TOKEN, None, 2)).step is Step.DONE


def test_rotation_is_done_only_when_the_status_has_the_new_material() -> None:
    """Otherwise the campaign for the former material would be taken for the new one."""
    key = rotated("Complete", OLD, done=5, total=5)
    key["status"]["currentKeyMaterialId"] = OLD
    assert decide_stage(key, Asked(TOKEN, OLD, 2)).step is Step.ROTATING


def test_each_call_asks_for_one_more_rotation() -> None:
    """The same text again would rotate nothing."""
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    token = build_rotation_token(now)
    assert token != build_rotation_token(now.replace(microsecond=7))
    assert len(token) <= 128
    assert build_rotation_patch(token, re_encrypt=False) == {"spec": {"rotateOnDemand": token}}
    assert build_rotation_patch(token, re_encrypt=True)["spec"]["reEncryption"] == {
        "enabled": True,
        "paused": False,
    }


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (Stage(Step.ROTATING), "rotating the key material"),
        (Stage(Step.RE_ENCRYPTING), "re-encrypting the data keys"),
        (Stage(Step.RE_ENCRYPTING, 412, 500), "412/500 re-encrypted"),
        (Stage(Step.WAITING, 4, 5, 1), "4/5 re-encrypted, 1 failed (tried again), waiting"),
        (Stage(Step.DONE, 5, 5), "5/5 re-encrypted, done"),
        (Stage(Step.DONE), "done"),
        (Stage(Step.FAILED, message="X: no"), "failed: X: no"),
    ],
)
def test_stages_in_words(stage: Stage, text: str) -> None:
    """One short line each."""
    assert describe(stage) == text


def test_bar_fits_into_the_terminal() -> None:
    """However narrow; without Unicode it is made of letters."""
    half = Stage(Step.RE_ENCRYPTING, 5, 10)
    assert build_bar(half, 80, unicode=False) == "#" * 20 + "." * 20 + " 5/10 re-encrypted"
    assert len(build_bar(half, 60, unicode=True)) <= 60
    assert build_bar(half, 20, unicode=True) == "5/10 re-encrypted"


def test_lines_are_few_where_there_is_no_terminal() -> None:
    """One per ten percent, and each change of what is going on."""
    console, out = build_console()
    progress = Progress(console)
    for done in range(1001):
        progress.show(Stage(Step.RE_ENCRYPTING, done, 1000))
    progress.show(Stage(Step.DONE, 1000, 1000))
    lines = out.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-1] == "1000/1000 re-encrypted, done"


def test_terminal_has_one_line_that_changes() -> None:
    """It is ended before anything else is written."""
    console, out = build_console(terminal=True)
    progress = Progress(console)
    progress.show(Stage(Step.RE_ENCRYPTING, 1, 2))
    progress.show(Stage(Step.FAILED, message="X: no"))
    progress.close()
    assert out.getvalue().count("\n") == 2
    assert out.getvalue().endswith("\nfailed: X: no\n")


class Scene:
    """A cluster with the key main, and the command on it."""

    def __init__(self, kubectl: FakeKubectl, key: dict[str, Any]) -> None:
        self.kubectl = kubectl
        kubectl.answer_list(build_path(DATAKEYS, "kmskeys", NAMESPACE), key)
        kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", NAMESPACE))
        kubectl.answer(build_path(DATAKEYS, "kmskeys", NAMESPACE, "main"), key)
        self.patched(key)

    def patched(self, key: dict[str, Any]) -> None:
        """Answer the patch with a key; kubectl's last word there is the patch itself."""
        self.kubectl.answer("patch", key)

    def run(self, *words: str) -> tuple[int, str]:
        """Run the command; give status and output."""
        arguments = parse_arguments(["rotate", "main", "-n", NAMESPACE, *words])
        console, out = build_console()
        return run_rotate(arguments, self.kubectl.cluster(), console), out.getvalue()

    @property
    def patches(self) -> list[Any]:
        """Return all that was patched."""
        return [json.loads(words[-1]) for words in self.kubectl.calls if "patch" in words]


def test_rotation_is_asked_for_and_not_waited_for(kubectl: FakeKubectl) -> None:
    """The text says how to look."""
    scene = Scene(kubectl, build_key())
    status, text = scene.run()
    assert status == 0
    assert "--status --wait" in text
    (patch,) = scene.patches
    assert patch["spec"]["rotateOnDemand"].startswith("kubectl-kms 20")
    assert "reEncryption" not in patch["spec"]


def test_rotation_of_a_disabled_key_says_when_it_comes(kubectl: FakeKubectl) -> None:
    """It is asked for all the same, and carried out with the change that enables the key."""
    status, text = Scene(kubectl, build_key(state="Disabled")).run()
    assert status == 0
    assert "It is Disabled, and is rotated once it is Enabled." in text


def test_pause_and_resume_rotate_nothing(kubectl: FakeKubectl) -> None:
    """They change one field."""
    scene = Scene(kubectl, rotated("Running", done=1, total=2))
    assert scene.run("--pause") == (0, "KmsKey main: re-encryption paused\n")
    assert scene.run("--resume") == (0, "KmsKey main: re-encryption resumed\n")
    assert scene.patches == [{"spec": {"reEncryption": {"paused": paused}}} for paused in (True, False)]


def test_there_is_nothing_to_pause_without_re_encryption(kubectl: FakeKubectl) -> None:
    """The next step begins one."""
    with pytest.raises(UserError, match="rotate main --re-encrypt"):
        Scene(kubectl, build_key()).run("--pause")


def test_status_writes_nothing(kubectl: FakeKubectl) -> None:
    """Looking is free; waiting ends at once if all is done."""
    scene = Scene(kubectl, rotated("Complete", done=2, total=2))
    assert scene.run("--status") == (0, "KmsKey main: 2/2 re-encrypted, done\n")
    assert scene.run("--status", "--wait") == (0, "2/2 re-encrypted, done\n")
    assert scene.patches == []


def test_changes_are_watched_until_it_is_done(kubectl: FakeKubectl) -> None:
    """Each is shown; nobody polls."""
    scene = Scene(kubectl, rotated("Running", done=1, total=2))
    where = {"watch": "true", "fieldSelector": "metadata.name=main", "resourceVersion": "7"}
    events = [
        {"type": "MODIFIED", "object": rotated("Paused", done=1, total=2)},
        {"type": "MODIFIED", "object": rotated("Complete", done=2, total=2)},
    ]
    lines = "".join(f"{json.dumps(event)}\n" for event in events)
    kubectl.answer(build_path(DATAKEYS, "kmskeys", NAMESPACE, **where, timeoutSeconds="300"), lines)
    status, text = scene.run("--status", "--wait")
    assert status == 0
    assert text.splitlines() == [
        "1/2 re-encrypted",
        "1/2 re-encrypted, paused",
        "2/2 re-encrypted, done",
    ]
    assert [words[-1].partition("?")[0].rsplit("/", 1)[-1] for words in kubectl.calls].count("main") == 1


def test_failed_rotation_sets_the_status(kubectl: FakeKubectl) -> None:
    """A script sees it, with the reason."""
    scene = Scene(kubectl, failing("LimitExceededException", 1))
    status, text = scene.run("--wait", "-o", "json")
    document = json.loads(text)
    assert (status, document["step"]) == (1, "Failed")
    assert document["message"] == "LimitExceededException: not now"


def test_options_that_contradict_each_other(kubectl: FakeKubectl) -> None:
    """Nothing is done then."""
    scene = Scene(kubectl, build_key())
    with pytest.raises(UserError, match="--re-encrypt"):
        scene.run("--re-encrypt", "--pause")
    assert scene.patches == []


def test_console_without_terminal_is_the_default() -> None:
    """A pipe gets lines."""
    assert not Console(build_console()[1]).terminal
