"""``scripts/demo``: tell the whole story, then keep the console up until Ctrl-C (``--once``: end there)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from examples.digits.story import steps
from examples.digits.story.processes import Processes, StepFailed
from examples.digits.story.telling import Teller

from edgewise.errors import EdgewiseError

GAIN = 0.05
"""By how much accuracy in the drifted district must come back."""
LOSS = 0.07
"""What the others may lose at most: with some 150 labels on either side, four standard errors of chance."""


def main() -> int:
    """Returns the exit status: 0 only if every step did what it should, and no process is left."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the story; exit 0 only if every step was right")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here")
    parser.add_argument("--port", type=int, default=0, help="the hub's port (default: any free one)")
    parser.add_argument(
        "--data", type=Path, help="keep the hub's and the devices' folders here (default: a temporary one)"
    )
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="edgewise-demo-") as temporary:
        folder = options.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        story = steps.Story(Teller(), Processes(folder.resolve()))
        failure = ""
        # Whoever ends the demo, by hand or from a script, leaves no process behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            tell(story, options.port)
            if not options.once:
                stay(story)
        except (StepFailed, EdgewiseError) as error:
            failure = str(error)
        except KeyboardInterrupt:
            failure = "interrupted"
        finally:
            if failure:
                story.teller.console.print(f"[bold red]The story went wrong:[/] {failure}")
                story.teller.console.print(
                    f"Logs: {story.processes.logs}" if options.data else "Logs: use --data DIR to keep them"
                )
            story.processes.stop()
        left = left_behind(folder.resolve())
        if left and not failure:
            failure = f"processes left behind: {left}"
        if options.json:
            summary = {"ok": not failure, "failure": failure, **story.summary}
            options.json.write_text(json.dumps(summary, indent=2) + "\n")
        return 1 if failure else 0


def tell(story: steps.Story, port: int) -> None:
    """The steps in order. Raises StepFailed at the first that went wrong."""
    teller = story.teller
    teller.step(1, "The hub comes up, and runs the recipe of the first version")
    steps.start_hub(story, port)
    steps.train(story, 1)
    teller.step(2, "Twelve cameras enroll")
    steps.enroll_fleet(story)
    teller.step(3, "v1: trained, compiled for two profiles in one request, rolled out")
    steps.wait_for_version(story, 1)
    steps.train(story, 2)
    steps.feed_fleet(story)
    steps.roll_out(story, 1, first=True)
    teller.step(4, "v2: looks as good offline, and is bad live")
    steps.wait_for_version(story, 2)
    steps.train(story, 3)
    steps.roll_out_bad(story, 2, back_to=1)
    teller.step(5, "v3: better, by canary to everyone")
    steps.wait_for_version(story, 3)
    steps.roll_out(story, 3)
    steps.consent_and_trigger(story)
    steps.measure(story, "before", time.time(), 3)
    teller.step(6, "The cameras of one district slip")
    steps.slip(story)
    steps.see_drift(story)
    steps.measure(story, "during", time.time(), 3)
    teller.step(7, "The hub learns from what it may see, and rolls the answer out")
    steps.ask_for_samples(story)
    version = steps.learn(story, champion=3)
    steps.measure(story, "after", time.time(), version)
    steps.say_what_stays(story)
    summarise(story)


def summarise(story: steps.Story) -> None:
    """8. The summary, and the last check: accuracy is back."""
    teller = story.teller
    teller.step(8, "What it came to")
    system = story.client.system()
    phases = ("before", "during", "after")
    teller.table(
        "Accuracy by label feedback",
        ["district", *phases],
        [[d, *(f"{story.accuracy[phase][d]:.1%}" for phase in phases)] for d in steps.DISTRICTS],
    )
    story.summary.update(
        accuracy=story.accuracy,
        windows=system.windows,
        window_bytes=system.window_bytes,
        bytes_per_window=round(system.window_bytes / max(system.windows, 1)),
        blob_bytes_sent=system.blob_bytes_sent,
        seconds=round(teller.seconds(), 1),
        memory=memory(story),
    )
    teller.table(
        "On the wire and on the devices",
        ["what", "value"],
        [
            ["windows", f"{system.windows}, {story.summary['bytes_per_window']} bytes each"],
            ["models sent", f"{system.blob_bytes_sent / 1e6:.2f} MB"],
            ["supervisor, median RSS", f"{story.summary['memory']['supervisor_mb']:.0f} MB"],
            ["serve child, median RSS", f"{story.summary['memory']['serve_child_mb']:.0f} MB"],
            ["time", f"{story.summary['seconds']:.0f} s"],
        ],
    )
    during, after = (story.accuracy[phase][steps.SLIPPED] for phase in ("during", "after"))
    if after < during + GAIN:
        raise StepFailed(
            f"expected accuracy in {steps.SLIPPED} to come back by {GAIN:.0%}, got {during:.1%} -> {after:.1%}"
        )
    for district in steps.DISTRICTS:
        if district != steps.SLIPPED and story.accuracy["after"][district] < story.accuracy["before"][district] - LOSS:
            raise StepFailed(f"expected {district} to lose nothing, got {story.accuracy['after'][district]:.1%}")


def memory(story: steps.Story) -> dict[str, float]:
    """Median resident memory of the agents' two processes, MB."""
    supervisors, children = [], []
    for running in story.processes.named(story.devices):
        process = psutil.Process(running.process.pid)
        supervisors.append(process.memory_info().rss / 1e6)
        children += [child.memory_info().rss / 1e6 for child in process.children()]
    return {
        "supervisor_mb": round(sorted(supervisors)[len(supervisors) // 2], 1),
        "serve_child_mb": round(sorted(children)[len(children) // 2], 1),
    }


def left_behind(folder: Path) -> list[int]:
    """Processes that still work in the story's folder."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in ours and any(str(folder) in part for part in process.info["cmdline"] or [])
    ]


def stay(story: steps.Story) -> None:
    """Keep everything up until Ctrl-C."""
    code = story.client.sign_in_code()
    story.teller.console.print(
        f"\nThe console is at [bold]{story.url}[/]; sign in with the code [bold]{code.code}[/] "
        f"(good for {code.expires_in / 60:.0f} minutes). Ctrl-C ends everything."
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        story.teller.console.print("Stopping.")


if __name__ == "__main__":
    sys.exit(main())
