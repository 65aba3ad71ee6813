"""``edgewise drift calibrate`` as a person types it, on a real hub, on the reference that was compiled; and what the
console then says of it, on a phone and by keyboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

pytestmark = [pytest.mark.e2e, pytest.mark.console]

ITEMS = 840


@pytest.fixture
def edgewise(tmp_path):
    """``edgewise(world, ...)``: what it printed."""

    def run(world, *arguments):
        token = (world.data / "operator.token").read_text().strip()
        ran = subprocess.run(
            [sys.executable, "-c", "from edgewise.cli import main; main()", *map(str, arguments)],
            env={**os.environ, "EDGEWISE_URL": world.url, "EDGEWISE_TOKEN": token, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


@pytest.fixture
def phone():
    """A page as wide as a phone's."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "no chromium found: 'scripts/setup --tests' installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 375, "height": 812})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_a_calibration_is_made_said_and_shown(new_world, models, edgewise, phone, tmp_path):
    world = new_world()
    world.join("camera-a", group="district-a")
    model, data = models.write(tmp_path, "small")
    inputs, labels = models.draw(ITEMS, seed=5)
    np.savez(data, inputs=inputs, labels=labels)
    version = world.client.models.register_onnx("clusters", model, data).version
    done = world.client.jobs.wait(world.client.compile("clusters", version, ["linux-x86-64"]).id)
    assert done.state == "done", done.error

    page = tmp_path / "page.html"
    said = edgewise(world, "drift", "calibrate", f"clusters:{version}", "--per-day", 60, "--page", page)
    assert f"clusters:{version} on linux-x86-64" in said
    [found] = [one for one in world.client.drift.calibrations("clusters") if one.version == version]
    assert found.per_day == {"device": 60, "group": 600}
    [bundle] = found.bundles
    assert bundle.m == ITEMS and bundle.false_alarms.trials > 0 and bundle.run_length > 1
    assert [one.who for one in bundle.smallest] == ["device", "group"]
    assert not bundle.enough and f"the promise: it has {ITEMS} items, and" in said
    for line in bundle.words:
        assert " ".join(line.split()) in " ".join(said.split())
        assert line in page.read_text()

    phone.goto(f"{world.url}/#/drift/clusters")
    phone.get_by_label("One-time code").fill(world.client.sign_in_code().code)
    phone.get_by_role("button", name="Sign in").click()
    trust = phone.get_by_role("region", name="How far alarms can be trusted")
    card = trust.get_by_role("article", name="Calibration on linux-x86-64")
    rate = bundle.false_alarms
    expect(card).to_contain_text(f"({rate.alarms} of {rate.trials} undrifted spans)", timeout=60_000)
    expect(card).to_contain_text(f"{ITEMS} items; too small: {bundle.needed:,} are needed")
    expect(card).to_contain_text("Smallest shift that a device shows in a day")
    expect(card).to_contain_text("Smallest shift that a group shows in a day")
    assert phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    link = trust.get_by_role("link", name="The page with plots")
    for _ in range(60):
        phone.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    expect(link).to_be_focused()
    with phone.expect_popup() as opened:
        phone.keyboard.press("Enter")
    expect(opened.value.get_by_role("heading", level=1)).to_contain_text(f"clusters version {version}")
    phone.screenshot(path=tmp_path / "phone.png", full_page=True)
    print(tmp_path / "phone.png")
