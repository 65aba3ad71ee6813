"""The console in headless Chromium, over the real hub, broker and agents: the whole story, seen and steered there.

Rules: the page is never reloaded, so whatever changes on it came live; a page error, a refused script or style, or any
other complaint of the browser fails the test. Each step leaves a screenshot; a failure prints where.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

pytestmark = [pytest.mark.e2e, pytest.mark.console]

RECIPE = Path(__file__).parent.parent / "hub" / "jobs" / "tiny_recipe.py"
DISTRICTS = ("district-a", "district-b", "district-c")
DRIFTS = "district-b"
SHIFT, POISON, BATCH = 0.6, -200.0, 8
PATIENCE_MS = 60_000
PHONE = {"width": 375, "height": 812}
CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def context() -> Iterator[BrowserContext]:
    """A browser of its own, in a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "no chromium found: 'scripts/setup --tests' installs it"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser.new_context(viewport={"width": 1280, "height": 800})
        browser.close()


class Feed:
    """What applications ask of the agents, a thread a device. ``shifted`` and ``poisoned`` name devices."""

    def __init__(self, draw: Callable[..., Any], agents: list[Any]) -> None:
        self.shifted: set[str] = set()
        self.poisoned: set[str] = set()
        self._draw, self._stop = draw, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed, agent)) for seed, agent in enumerate(agents)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int, agent: Any) -> None:
        inputs, _ = self._draw(50_000, seed=seed)
        for i in range(0, len(inputs), BATCH):
            batch = inputs[i : i + BATCH] + (SHIFT if agent.name in self.shifted else 0.0)
            if agent.name in self.poisoned:
                batch[0, 0] = POISON
            agent.infer("clusters", batch.tolist())  # before the first rollout nothing answers
            if self._stop.wait(0.1):
                return

    def stop(self) -> None:
        """End every thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Console:
    """A tab that is signed in, or about to be; collects whatever its browser complains about."""

    def __init__(self, context: BrowserContext, url: str, shots: Path) -> None:
        self.url, self.shots = url, shots
        shots.mkdir(exist_ok=True)
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(url)

    def _listen(self, message: Any) -> None:
        signed_out = "status of 401" in message.text  # the page itself tells that: it asks for a code
        if message.type in ("error", "warning") and not signed_out:
            self.complaints.append(f"{message.text} ({message.location['url']})")

    @contextmanager
    def step(self, name: str) -> Iterator[Page]:
        """A part of the story: ends with a screenshot, and without a complaint."""
        try:
            yield self.page
        finally:
            path = self.shots / f"{len(list(self.shots.iterdir())) + 1:02}-{name.replace(' ', '-')}.png"
            self.page.screenshot(path=path)
            print(f"{name}: {path}")
        assert self.complaints == []

    def go(self, place: str) -> None:
        """Through the navigation."""
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=place).click()

    def roll_out(self, version: int, stages: str, evidence: int) -> None:
        """Start a rollout in the form; ends on its page. Latency and mix are left out: two busy cores decide them."""
        self.go("Rollouts")
        self.page.get_by_role("link", name="Start a rollout").click()
        form = self.page.get_by_role("form", name="New rollout")
        form.get_by_label("Model").select_option("clusters")
        form.get_by_label("Version").select_option(str(version))
        form.get_by_label("Group").select_option("")
        form.get_by_role("radio", name=stages).check()
        form.get_by_text("Gates", exact=True).click()
        form.get_by_label("Latency, at most").fill("")
        form.get_by_label("Prediction mix, at most").fill("")
        form.get_by_label("Evidence, at least").fill(str(evidence))
        form.get_by_role("button", name="Start the rollout").click()
        expect(self.page.get_by_role("list", name="Stages")).to_be_visible()

    def expect_heading(self, text: str | re.Pattern[str]) -> None:
        """Which page this is."""
        expect(self.page.get_by_role("heading", level=1)).to_have_text(text)

    def expect_state(self, words: str) -> None:
        """The state beside the title."""
        expect(self.page.locator(".page-head .badge")).to_have_text(words)

    def expect_sideways_fit(self) -> None:
        """Nothing makes the page scroll sideways."""
        page = "document.documentElement"
        assert self.page.evaluate(f"{page}.scrollWidth - {page}.clientWidth") == 0, self.page.url


@pytest.fixture
def feeds() -> Iterator[list[Feed]]:
    """Feeds to stop at the end, however it comes."""
    started: list[Feed] = []
    yield started
    for feed in started:
        feed.stop()


def test_the_whole_story_is_seen_and_steered_in_the_browser(
    new_world, models, good, gives_nan, crashes, context, feeds, tmp_path
):
    world = new_world(window_s=0.5)
    console = Console(context, world.url, tmp_path / "screenshots")
    sign_in(console, world)
    console.page.evaluate("window.sinceTheBeginning = true")
    join(console, world)
    feed = Feed(models.draw, list(world.agents.values()))
    feeds.append(feed)
    roll_out_a_good_version(console, good)
    see_drift(console, feed)
    stop_a_bad_version(console, feed, good, gives_nan)
    run = world.client.training.start("tiny", recipe=world.client.upload(RECIPE), note="by hand")
    pause_and_abort(console, crashes)  # crashes on inputs that nobody sends here
    see_a_training_run(console, run.id)
    refuse_what_does_not_look_right(console, world)
    assert console.page.evaluate("window.sinceTheBeginning"), "the page was loaded again"

    use_the_keyboard_alone(Console(context, world.url, tmp_path / "keyboard"))
    fit_a_phone(Console(context, world.url, tmp_path / "phone"))
    sign_out(console)


def sign_in(console, world):
    with console.step("a wrong code is refused") as page:
        page.get_by_label("One-time code").fill("WRONGCODE")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("edgewise hub open")
    with console.step("an empty fleet says how to begin") as page:
        page.get_by_label("One-time code").fill(world.client.sign_in_code().code)
        page.get_by_role("button", name="Sign in").click()
        console.expect_heading("Fleet")
        expect(page.get_by_text("No devices yet.")).to_be_visible()
        expect(page.get_by_text("edgewise-agent enroll")).to_be_visible()
        expect(page.get_by_role("status", name="Connection")).to_have_text("Live")


def join(console, world):
    with console.step("devices appear as they join") as page:
        for district in DISTRICTS:
            world.join(f"camera-{district[-1]}", group=district)
            row = page.get_by_role("table", name="Devices").get_by_role("row", name=f"camera-{district[-1]}")
            expect(row).to_contain_text("no model")
            expect(row).to_contain_text(district)
        groups = page.get_by_role("region", name="Devices by group")
        expect(groups.get_by_role("link")).to_have_count(len(DISTRICTS))


def roll_out_a_good_version(console, good):
    with console.step("a good version passes stage by stage") as page:
        console.roll_out(good, "Canary", evidence=50)
        console.expect_state("running")
        stages = page.get_by_role("list", name="Stages").get_by_role("listitem")
        expect(stages).to_have_count(3)
        for stage in range(3):
            expect(stages.nth(stage)).to_contain_text("passed")
        console.expect_state("completed")
        expect(page.get_by_role("status", name="Why")).to_contain_text("every gate of the last stage passes")
        expect(page.get_by_text(f"3 of 3 devices on v{good} now")).to_be_visible()
    with console.step("the fleet serves the good version") as page:
        console.go("Fleet")
        for district in DISTRICTS:
            words = f"camera-{district[-1]} confirmed clusters v{good}"
            expect(page.get_by_role("table", name="Devices").get_by_role("row", name=words)).to_be_visible()


def see_drift(console, feed):
    def verdict(district):
        return console.page.get_by_role("article", name=f"Drift in {district}").locator(".card-head .badge")

    alerts = console.page.get_by_role("list", name="Alerts")
    with console.step("no drift where nothing changed"):
        console.go("Drift")
        for district in DISTRICTS:
            expect(verdict(district)).to_have_text("no drift")
        expect(alerts).to_have_count(0)
    feed.shifted.add(f"camera-{DRIFTS[-1]}")
    with console.step("drift is told where it is and nowhere else") as page:
        expect(verdict(DRIFTS)).to_have_text(re.compile(r"^(harmful )?drift$"))
        expect(alerts).to_contain_text(f"rift in {DRIFTS}")
        expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Drift")).to_contain_text("1")
        for district in DISTRICTS:
            if district != DRIFTS:
                expect(verdict(district)).to_have_text("no drift")
    feed.shifted.clear()


def stop_a_bad_version(console, feed, good, gives_nan):
    feed.poisoned.update(f"camera-{district[-1]}" for district in DISTRICTS)
    with console.step("a bad version is stopped, and why") as page:
        console.roll_out(gives_nan, "Canary", evidence=50)
        console.expect_state("rolled back")
        expect(page.get_by_role("status", name="Why")).to_contain_text(re.compile(r"Errors: .* not finite"))
        expect(page.get_by_role("list", name="Gates").get_by_role("listitem", name="Errors: fail")).to_be_visible()
        stages = page.get_by_role("list", name="Stages").get_by_role("listitem")
        expect(stages.nth(0)).to_contain_text("failed")
        expect(stages.nth(1)).to_contain_text("not reached")
    with console.step("the devices that it reached go back") as page:
        back = page.get_by_role("list", name="States").get_by_role("listitem").filter(has_text="rolled back")
        expect(back).to_contain_text("1")
        expect(page.get_by_text(f"0 of 3 devices on v{gives_nan} now")).to_be_visible()
        console.go("Fleet")
        expect(page.get_by_role("table", name="Devices").get_by_text(f"v{good}", exact=True)).to_have_count(3)
    feed.poisoned.clear()


def pause_and_abort(console, version):
    with console.step("a hand pauses and resumes") as page:
        console.roll_out(version, "Cautious", evidence=1_000_000)  # so much that its first stage never passes
        console.expect_state("running")
        page.get_by_role("button", name="Pause").click()
        console.expect_state("paused")
        page.get_by_role("button", name="Resume").click()
        console.expect_state("running")
        expect(page.get_by_role("list", name="Gates").get_by_role("listitem", name="Installs: pass")).to_be_visible()
    with console.step("aborting asks first"):
        dialog = page.get_by_role("dialog", name="Abort this rollout?")
        page.get_by_role("button", name="Abort").click()
        expect(dialog).to_contain_text("goes back to clusters v1")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("button", name="Abort")).to_be_focused()
        console.expect_state("running")
        page.get_by_role("button", name="Abort").click()
    with console.step("an aborted rollout takes its device back") as page:
        dialog.get_by_role("button", name="Abort the rollout").click()
        console.expect_state("aborted")
        expect(page.get_by_role("button", name="Abort")).to_have_count(0)
        back = page.get_by_role("list", name="States").get_by_role("listitem").filter(has_text="rolled back")
        expect(back).to_contain_text("1")
    with console.step("the list of rollouts tells the three") as page:
        console.go("Rollouts")
        rollouts = page.get_by_role("table", name="Rollouts")
        for state in ("completed", "rolled back", "aborted"):
            expect(rollouts.get_by_role("row").filter(has_text=state)).to_have_count(1)


def see_a_training_run(console, run):
    with console.step("a training run and the version that it gave") as page:
        console.go("Models")
        page.get_by_role("table", name="Models").get_by_role("link", name="tiny").click()
        console.expect_heading("tiny")
        card = page.get_by_role("article", name=f"Training run {run[:8]}")
        expect(card).to_contain_text("accepted")
        expect(card).to_contain_text("gave v1")
        expect(page.get_by_role("article", name="Version 1")).to_contain_text("by hand")


def refuse_what_does_not_look_right(console, world):
    far = [[1e6] * 16]
    camera = world.agents["camera-a"]
    assert camera.infer("clusters", far)[0] == 200
    with console.step("a rule for inputs reaches the devices") as page:
        console.go("Models")
        page.get_by_role("table", name="Models").get_by_role("link", name="clusters").click()
        form = page.get_by_role("form", name="Inputs that do not look right")
        tell = form.get_by_role("button", name="Tell the devices")
        expect(tell).to_be_disabled()
        form.get_by_label("Outside the range of the reference").select_option("refuse")
        tell.click()
        expect(tell).to_be_disabled()
        world.until("the device refuses it", lambda: camera.infer("clusters", far)[0] == 400)


def use_the_keyboard_alone(console):
    with console.step("by keyboard") as page:
        link = page.get_by_role("table", name="Devices").get_by_role("link").first
        expect(link).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
        page.keyboard.press("Enter")
        for _ in range(20):  # past the filters and the groups' dots
            if link.evaluate("link => link === document.activeElement"):
                break
            page.keyboard.press("Tab")
        expect(link).to_be_focused()
        page.keyboard.press("Enter")
        drawer = page.get_by_role("dialog", name="camera-a")
        expect(drawer.get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Escape")
        expect(drawer).to_be_hidden()
        expect(link).to_be_focused()


def fit_a_phone(console):
    places = ("Fleet", "Models", "Rollouts", "Drift")
    console.page.set_viewport_size(PHONE)
    for place in places:
        with console.step(place) as page:
            console.go(place)
            console.expect_heading(place)
            shown = page.locator("canvas" if place == "Drift" else "main table").first
            expect(shown).to_be_visible()
            console.expect_sideways_fit()
    for place, link in (("Fleet", "camera-a"), ("Models", "clusters"), ("Rollouts", "clusters v1 → v3")):
        with console.step(f"{place} {link.split()[0]}") as page:
            console.go(place)
            page.get_by_role("table").get_by_role("link", name=link, exact=True).first.click()
            opened = page.get_by_role("dialog") if place == "Fleet" else page.get_by_role("link", name="←")
            expect(opened).to_be_visible()
            expect(page.get_by_text("Loading…")).to_have_count(0)
            console.expect_sideways_fit()
            if place == "Fleet":
                page.get_by_role("button", name="Close").click()
    with console.step("New rollout") as page:
        console.go("Rollouts")
        page.get_by_role("link", name="Start a rollout").click()
        page.get_by_role("form", name="New rollout").get_by_text("Gates", exact=True).click()
        console.expect_sideways_fit()


def sign_out(console):
    with console.step("signed out") as page:
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("alert")).to_have_text("You are signed out.")
        page.reload()
        console.expect_heading("Sign in")
