"""The application beside each agent: a camera that sends its pictures to the agent on this machine, as a meter's would.

One process plays several cameras, a thread each, over connections that are kept. Each camera replays the held-out
pictures, dark frames among them, in a seeded order of its own: the same mix everywhere. A camera that has slipped sees
them turned and dimmed.

Rules that hold here:
- an agent that is away, restarts or answers 503 costs a picture, never the camera: it is counted as failed;
- a picture's label is fed back after its answer, for a share of them;
- it ends on SIGTERM, or when standard input closes.

``--cameras`` is a JSON list of ``{"name", "url", "seed", "slipped"}``. Lines on standard input change a camera:
``{"camera": "cam-1", "slipped": true}``. Counts go to standard output, a JSON line each few seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from digits import DATA, DataMissing, Images, Labels, live, rotate_and_dim

TIMEOUT_S = 5.0
PAUSE_S = 0.5
"""After a failure, before the next picture."""
AWAY = (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, StopIteration)
"""What an agent that is away, restarting, busy or of another kind comes as."""


@dataclass
class Counts:
    """Since the start. ``sent`` is ``answered`` and ``failed`` together.

    ``correct``: the highest score is the label's. ``nonfinite``: an answer with NaN in it.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    correct: int = 0
    nonfinite: int = 0
    feedback: int = 0


@dataclass
class Camera:
    """One camera. ``url``: where its agent serves, such as ``http://127.0.0.1:8080``."""

    name: str
    url: str
    seed: int
    slipped: bool = False
    counts: Counts = field(default_factory=Counts)

    def run(self, images: Images, labels: Labels, options: argparse.Namespace, stop: threading.Event) -> None:
        """Send a picture each ``1 / rate`` seconds until ``stop``."""
        random = np.random.default_rng(self.seed)
        session = f"{self.name[:32]}-{time.time_ns():x}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        # Cameras do not all press the shutter at once.
        due = time.monotonic() + random.uniform(0, 1 / options.rate)
        while not stop.wait(max(0.0, due - time.monotonic())):
            for row in random.permutation(len(images)):
                picture = rotate_and_dim(images[row]) if self.slipped else images[row]
                label = int(labels[row])
                feedback = random.random() < options.feedback_share
                ok = self._send(connection, options.model, f"{session}-{self.counts.sent}", picture, label, feedback)
                due = max(due + 1 / options.rate, time.monotonic()) if ok else time.monotonic() + PAUSE_S
                if stop.wait(max(0.0, due - time.monotonic())):
                    break
        connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, model: str, name: str, picture: Images, label: int, feedback: bool
    ) -> bool:
        counts = self.counts
        counts.sent += 1
        shape = [1, *picture.shape]
        tensor = {"name": "input", "datatype": "UINT8", "shape": shape, "data": picture.ravel().tolist()}
        try:
            answer = _post(connection, f"/v2/models/{model}/infer", {"id": name, "inputs": [tensor]})
            scores = next(output["data"] for output in answer["outputs"] if output["name"] == "scores")
        except AWAY:
            counts.failed += 1
            connection.close()
            return False
        counts.answered += 1
        if None in scores:  # JSON has no NaN
            counts.nonfinite += 1
        elif int(np.argmax(scores)) == label:
            counts.correct += 1
        if feedback:
            try:
                _post(connection, f"/v2/models/{model}/feedback", {"id": name, "label": label})
                counts.feedback += 1
            except AWAY:  # the agent has restarted since, and forgotten the picture
                connection.close()
        return True


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    """POST JSON on a kept connection. Raises HTTPException when the answer is not 2xx."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    if not 200 <= response.status < 300:
        raise http.client.HTTPException(f"{path}: {response.status} {data[:200]!r}")
    return json.loads(data) if data else None


def follow(cameras: dict[str, Camera], stop: threading.Event) -> None:
    """Take control lines from standard input until it closes; a line that is wrong is named and left."""
    # Unbuffered: a thread that waits inside sys.stdin would stand in the way of the interpreter's end.
    for line in open(0, "rb", buffering=0, closefd=False):  # noqa: SIM115
        try:
            order = json.loads(line)
            cameras[order["camera"]].slipped = bool(order["slipped"])
        except (ValueError, KeyError, TypeError) as error:
            print(
                f"camera: expected {{'camera': NAME, 'slipped': true}}, got {line!r:.100}: {error!r}", file=sys.stderr
            )
    stop.set()


def main() -> int:
    """Run the cameras; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Replay test pictures to agents, as cameras would.")
    parser.add_argument("--cameras", type=Path, required=True, help="JSON list of {name, url, seed, slipped}")
    parser.add_argument("--rate", type=float, default=8.0, help="pictures a second and camera (8)")
    parser.add_argument("--feedback-share", type=float, default=0.5, help="share of pictures labelled (0.5)")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--report-every", type=float, default=5.0, help="seconds between lines of counts (5)")
    options = parser.parse_args()
    try:
        images, labels = live(options.data)
        cameras = {entry["name"]: Camera(**entry) for entry in json.loads(options.cameras.read_text())}
    except (DataMissing, OSError, ValueError, KeyError, TypeError) as error:
        print(f"camera: {error}", file=sys.stderr)
        return 2
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threads = [threading.Thread(target=camera.run, args=(images, labels, options, stop)) for camera in cameras.values()]
    for thread in threads:
        thread.start()
    threading.Thread(target=follow, args=(cameras, stop), daemon=True).start()
    while not stop.wait(options.report_every):
        report(cameras)
    for thread in threads:
        thread.join()
    report(cameras)
    return 0


def report(cameras: dict[str, Camera]) -> None:
    """Counts of each camera, one JSON line."""
    counts = {name: {**vars(camera.counts), "slipped": camera.slipped} for name, camera in cameras.items()}
    print(json.dumps({"at": round(time.time(), 1), "cameras": counts}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
