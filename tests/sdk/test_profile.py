"""Device profiles: the built-in ones load, a folder may add its own, and a mistake is named by file and key."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edgewise import profile
from edgewise.errors import ProfileError

GOOD = """
schema = 1
name = "mine"
title = "My device"
architecture = "aarch64"
runtimes = ["onnxruntime", "litert"]
"""
DOCUMENTED = Path(__file__).parent.parent.parent / "docs" / "device-profiles.md"


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


@pytest.mark.parametrize("path", sorted(profile.BUILT_IN.glob("*.toml")), ids=lambda path: path.stem)
def test_a_built_in_profile_names_its_sources(path):
    assert re.search(r"^# (.* )?Source: .+", path.read_text(), re.MULTILINE)


def test_the_documentation_lists_the_built_in_profiles_as_they_are():
    documented = re.findall(
        r"^\| `([a-z0-9-]+)` \| (.+) \| `(.+)` \| (.+) \| (.+) \|$", DOCUMENTED.read_text(), re.MULTILINE
    )
    there_are = profile.load_all().values()
    assert sorted(documented) == [
        (p.name, p.title, p.architecture, ", ".join(p.runtimes), ", ".join(p.dtypes)) for p in there_are
    ]


def test_the_documentation_explains_every_key():
    tables = {"hardware": profile.Hardware, "quantization": profile.Quantization, "limits": profile.Limits}
    keys = {key for key in profile.Profile.__struct_fields__ if key not in tables}
    keys |= {f"{table}.{key}" for table, struct in tables.items() for key in struct.__struct_fields__}
    schema = DOCUMENTED.read_text().partition("## The schema")[2]
    assert set(re.findall(r"^\| `([a-z_.]+)` \| .+ \| .+ \| .+ \|$", schema, re.MULTILINE)) == keys


def test_the_documentations_own_profile_loads(tmp_path):
    (example,) = re.findall(r"```toml\n(.+?)```", DOCUMENTED.read_text(), re.DOTALL)
    assert profile.load(write(tmp_path, example, "door-camera")).hardware.memory_mb == 512


def test_a_profile_has_defaults_for_what_it_does_not_say(tmp_path):
    loaded = profile.load(write(tmp_path, GOOD))
    assert loaded.limits.threads == 1
    assert loaded.quantization.schemes == ["u8s8", "s8s8"]
    assert loaded.quantization.per_channel
    assert loaded.dtypes == ["fp32", "int8"]
    assert loaded.hardware == profile.Hardware()


def test_a_device_without_int8_has_no_schemes(tmp_path):
    text = GOOD + "dtypes = ['fp32', 'fp16']\n[quantization]\nschemes = []"
    assert profile.load(write(tmp_path, text)).quantization.schemes == []


def test_limits_may_take_all_of_the_hardware(tmp_path):
    hardware, limits = "[hardware]\ncores = 4\nmemory_mb = 512\n", "[limits]\nthreads = 4\nmemory_mb = 512\n"
    assert profile.load(write(tmp_path, GOOD + hardware + limits)).limits.threads == 4


def test_a_profile_that_contradicts_itself_cannot_be_made():
    good = profile.find("raspberry-pi-5")
    with pytest.raises(ValueError, match=r"limits\.threads: expected at most the 4 of the hardware, got 5"):
        msgspec.structs.replace(good, limits=profile.Limits(threads=5))


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
        (GOOD.replace("runtimes", "runtime"), "unknown field `runtime`"),
        (GOOD.replace('["onnxruntime", "litert"]', "[]"), r"length >= 1 - at `\$.runtimes`"),
        (GOOD.replace("litert", "lite rt"), r"matching regex .* at `\$.runtimes\[1\]`"),
        (GOOD.replace("litert", "onnxruntime"), "runtimes: expected each once, got 'onnxruntime' 2 times"),
        (GOOD.replace("runtimes", "# "), "missing required field `runtimes`"),
        (GOOD.replace("schema = 1", "schema = 2"), r"Invalid enum value 2 - at `\$.schema`"),
        (GOOD + "colour = 1", "unknown field `colour`"),
        (GOOD + "[limits]\nthreads = 0", r"`int` >= 1 - at `\$.limits.threads`"),
        (GOOD + "[limits]\nthreads = 'two'", r"Expected `int`, got `str` - at `\$.limits.threads`"),
        (GOOD + "[limits]\nstorage_mb = 0", r"`int` >= 1 - at `\$.limits.storage_mb`"),
        (GOOD + "dtypes = ['fp64']", r"Invalid enum value 'fp64' - at `\$.dtypes\[0\]`"),
        (GOOD + "dtypes = ['int8', 'int8']", "dtypes: expected each once, got 'int8' 2 times"),
        (GOOD + "dtypes = ['fp32']", "schemes: expected \\[\\], since dtypes has no int8, got u8s8, s8s8"),
        (GOOD + "[quantization]\nschemes = []", "schemes: expected at least one, since dtypes has int8, got none"),
        (GOOD + "[hardware]\ncolour = 'red'", r"unknown field `colour` - at `\$.hardware`"),
        (
            GOOD + "[hardware]\ncores = 1\n[limits]\nthreads = 2",
            "limits.threads: expected at most the 1 of the hardware",
        ),
        (GOOD + "[hardware]\nmemory_mb = 64\n[limits]\nmemory_mb = 65", "limits.memory_mb: expected at most the 64"),
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
