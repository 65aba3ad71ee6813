"""Device profiles: the built-in ones load, a folder may add its own, and a mistake is named by file and key."""

from __future__ import annotations

import pytest

from edgewise import profile
from edgewise.errors import ProfileError

GOOD = """
schema = 1
name = "mine"
title = "My device"
architecture = "aarch64"
runtime = "onnxruntime"
"""


@pytest.fixture(autouse=True)
def no_folders_from_outside(monkeypatch):
    monkeypatch.delenv("EDGEWISE_PROFILES", raising=False)


def write(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_built_in_profiles_load():
    found = profile.load_all()
    assert {"linux-x86-64", "raspberry-pi-5"} <= set(found)
    assert all(name == value.name for name, value in found.items())


def test_a_profile_has_defaults_for_what_it_does_not_say(tmp_path):
    loaded = profile.load(write(tmp_path, GOOD))
    assert loaded.limits.threads == 1
    assert loaded.quantization.schemes == ["u8s8", "s8s8"]


def test_folders_add_profiles_and_a_later_one_wins(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, title in ((first, "First"), (second, "Second")):
        folder.mkdir()
        write(folder, GOOD.replace("My device", title))
    monkeypatch.setenv("EDGEWISE_PROFILES", str(first))
    assert profile.find("mine").title == "First"
    assert profile.find("mine", [second]).title == "Second"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema = ", "not TOML"),
        (GOOD.replace('runtime = "onnxruntime"', ""), "missing required field `runtime`"),
        (GOOD.replace("schema = 1", "schema = 2"), r"Invalid enum value 2 - at `\$.schema`"),
        (GOOD + "colour = 1", "unknown field `colour`"),
        (GOOD + "[limits]\nthreads = 0", r"`int` >= 1 - at `\$.limits.threads`"),
        (GOOD + "[limits]\nthreads = 'two'", r"Expected `int`, got `str` - at `\$.limits.threads`"),
        (GOOD + "[quantization]\nschemes = []", r"at `\$.quantization.schemes`"),
        (GOOD + "[quantization]\nschemes = ['u4']", r"Invalid enum value 'u4' - at `\$.quantization.schemes\[0\]`"),
        (GOOD.replace('"mine"', '"yours"'), "name: expected 'mine', as the file is called, got 'yours'"),
        ("#" * (profile.MAX_FILE + 1), "at most 65536 bytes"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_was_expected(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(ProfileError, match=says) as caught:
        profile.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="not TOML"):
        profile.load(path)


def test_an_unknown_profile_lists_what_there_is():
    with pytest.raises(ProfileError, match=r"unknown device profile 'toaster': expected one of .*raspberry-pi-5"):
        profile.find("toaster")


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"none\.toml: cannot be read"):
        profile.load(tmp_path / "none.toml")
    with pytest.raises(ProfileError, match="expected a folder of device profiles"):
        profile.load_all([tmp_path / "none"])
