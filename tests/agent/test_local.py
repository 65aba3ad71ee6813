"""``LocalModel``: the agent's model inside an application, from the agent's store, which it only reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_builders import CLASSES, MODEL, SIDE, WIDTH, Bundle, HubKey, make_bundle, wait_for, write_blobs

from edgewise_agent import LocalModel
from edgewise_agent.runtimes import open_runtime
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.serving.local import NotInstalled
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Duties, Install, Installs, ModelDuty

IMAGE = np.full((2, 1, SIDE, SIDE), 0.5, np.float32)


def install(data: Path, bundle: Bundle) -> None:
    disk = Disk()
    store = BlobStore(disk, data / "blobs" / "sha256")
    write_blobs(store.folder, bundle)
    active = Install(bundle=bundle.digest, version=bundle.manifest.version, release=bundle.manifest.release)
    duties = Duties(models={MODEL: ModelDuty(active=active, confirmed=True)})
    Installs(disk, data / "duties.json", store).save(duties)


def test_answers_as_the_runtime_does_and_writes_nothing(key: HubKey, tmp_path: Path) -> None:
    bundle = make_bundle(key, 1)
    install(tmp_path, bundle)
    before = sorted(tmp_path.rglob("*"))
    model = LocalModel(tmp_path, MODEL)
    outputs = model.infer({"image": IMAGE})
    runtime = open_runtime("onnxruntime", tmp_path / "blobs" / "sha256" / bundle.manifest.blobs["model"].sha256)
    for name, expected in runtime.infer({"image": IMAGE}).items():
        np.testing.assert_array_equal(outputs[name], expected)
    assert outputs["scores"].shape == (2, CLASSES) and outputs["embedding"].shape == (2, WIDTH)
    assert sorted(tmp_path.rglob("*")) == before


def test_reports_a_window_with_what_it_saw(key: HubKey, tmp_path: Path) -> None:
    install(tmp_path, make_bundle(key, 1))
    windows: list[WindowClosed] = []
    model = LocalModel(tmp_path, MODEL, report=windows.append)
    for _ in range(40):
        model.infer({"image": IMAGE}, id="a")
    model.infer({"image": IMAGE + 1}, id="b")
    with pytest.raises(InputRefused):
        model.infer({"picture": IMAGE})
    assert model.label("a/0", 0) and not model.label("never", 0)
    model.close()
    (window,) = windows
    counters = window.counters
    assert (counters.inferences, counters.out_of_bounds, counters.refused, counters.labelled) == (82, 2, 1, 1)
    assert set(window.sketches) == {"latency", "classes", "confidence", "embedding", "labels"}


def test_a_label_of_a_window_that_is_over_is_reported_too(key: HubKey, tmp_path: Path) -> None:
    install(tmp_path, make_bundle(key, 1))
    windows: list[WindowClosed] = []
    model = LocalModel(tmp_path, MODEL, window_s=0.01, report=windows.append)
    model.infer({"image": IMAGE}, id="a")

    def over() -> bool:
        model.infer({"image": IMAGE})
        return bool(windows)

    wait_for(over, "the window is over")
    assert model.label("a/0", 0)
    model.close()
    (late,) = [window for window in windows if window.counters.late]
    assert late.counters.labelled == 1 and late.sketches.keys() == {"labels"} and late.ended_s is not None


def test_refresh_takes_the_version_that_is_active_now(key: HubKey, tmp_path: Path) -> None:
    install(tmp_path, make_bundle(key, 1))
    model = LocalModel(tmp_path, MODEL)
    assert model.version == 1 and not model.refresh()
    install(tmp_path, make_bundle(key, 2))
    assert model.version == 1 and model.refresh() and model.version == 2
    assert model.infer({"image": IMAGE})["scores"].shape == (2, CLASSES)


def test_says_what_is_installed(key: HubKey, tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="'cats'"):
        LocalModel(tmp_path, "cats")
    install(tmp_path, make_bundle(key, 1))
    with pytest.raises(NotInstalled, match=MODEL):
        LocalModel(tmp_path, "cats")
    (tmp_path / "duties.json").write_bytes(b"{")
    with pytest.raises(NotInstalled, match=r"duties\.json"):
        LocalModel(tmp_path, MODEL)


def test_the_package_stays_light_until_it_is_asked_for() -> None:
    loaded = "print('numpy' in sys.modules)"
    code = f"import sys, edgewise_agent; {loaded}; edgewise_agent.LocalModel; {loaded}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]
