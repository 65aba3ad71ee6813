"""Asks a server's Open Inference Protocol endpoint.

Rules that hold here:
- nothing is sent but to a host that the device's owner allows, over TLS unless it is this machine; with the token that
  the owner has for this host, and not at all where that cannot be read;
- an answer that takes longer than ``timeout_s`` in all, whatever it hangs in, is not waited for;
- at most ``at_once`` are asked together, so that a server that hangs never takes the last place of those who answer;
- after a failure the server is left alone for a while, twice as long each time, up to a minute;
- no redirect is followed, and at most ``MAX_ANSWER`` bytes are read.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from edgewise.wire.experiment import Escalate
from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.oip.asking import LENGTH, read_answer, write_question
from edgewise_agent.serving.oip.tensors import BadTensor
from edgewise_agent.serving.routing.budget import Budget
from edgewise_agent.serving.routing.escalation import Reply, Unanswered
from edgewise_agent.serving.routing.tokens import NoToken, place_of, read_token

log = logging.getLogger(__name__)

MAX_ANSWER = 4 * 1024 * 1024
MAX_PAUSE_S = 60.0
_HERE = {"127.0.0.1", "localhost", "::1"}


class Server:
    """Call it to ask. For several threads."""

    def __init__(
        self, policy: Escalate, allowed: Collection[str], budget: Budget, at_once: int, tokens: Sequence[str] = ()
    ) -> None:
        """``allowed``: hosts, each with a port or for any; ``tokens``: as ``Options.escalate_tokens``."""
        url = urlsplit(policy.url)
        self._tls, self._host, self._port = url.scheme == "https", url.hostname or "", _port(policy.url)
        self._path = f"{url.path.rstrip('/')}/models/{policy.model}/infer"
        self._timeout_s, self._budget = policy.timeout_s, budget
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=at_once)
        self._free = threading.Semaphore(at_once)
        self._failures, self._not_before = 0, 0.0
        self._token = place_of(tokens, self._host, self._port)
        self._refusal = self._refused(set(allowed))
        if self._refusal is not None:
            log.warning("%s", self._refusal)

    def __call__(self, inputs: Arrays, outputs: list[str]) -> Reply:
        """The outputs by name. Raises Unanswered."""
        if self._refusal is not None:
            raise Unanswered(self._refusal)
        if time.monotonic() < self._not_before:
            raise Unanswered("the server failed a moment ago")
        headers, body = write_question(inputs, outputs)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._read_token(self._token)}"
        if not self._free.acquire(blocking=False):
            raise Unanswered("the server is asked by too many")
        if not self._budget.take(len(body), time.time()):
            self._free.release()
            raise Unanswered("the budget of this day is spent")
        question = _Question(self, headers, body)
        question.start()
        question.join(self._timeout_s)
        return self._heard(question, len(body))

    def _heard(self, question: _Question, sent: int) -> Reply:
        error = question.error if question.done else f"no answer within {self._timeout_s:g} s"
        received = len(question.answer)
        self._budget.take(received, time.time(), over=True)
        if error is None:
            try:
                reply = Reply(read_answer(question.header_length, question.answer), sent + received)
                self._failures = 0
                return reply
            except BadTensor as bad:
                error = str(bad)
        self._failures += 1
        pause = min(MAX_PAUSE_S, 2.0 ** min(self._failures - 1, 10))
        self._not_before = time.monotonic() + pause
        log.warning("%s:%d: %s; not asked for %g s", self._host, self._port, error[:200], pause)
        raise Unanswered(error, asked=True, spent=sent + received)

    def exchange(self, question: _Question) -> None:
        """On the question's own thread: send and read, over a connection that is kept."""
        for fresh in (False, True):
            try:
                connection = self._idle.pop() if not fresh else self._connect()
            except IndexError:
                continue  # none is kept
            try:
                connection.request("POST", self._path, question.body, question.headers)
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                if fresh:
                    raise
                continue  # the server closed it while it was idle
            answer = response.read(MAX_ANSWER + 1)
            if response.status != 200 or len(answer) > MAX_ANSWER:
                connection.close()
                raise http.client.HTTPException(f"status {response.status}, {len(answer)} bytes")
            question.header_length, question.answer = response.headers.get(LENGTH), answer
            if response.isclosed() and not response.will_close:
                self._idle.append(connection)
            return

    def _read_token(self, place: str) -> str:
        try:
            return read_token(place)
        except NoToken as error:
            log.warning("%s:%d: %s", self._host, self._port, error)
            raise Unanswered(str(error)) from error

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout_s)

    def release(self) -> None:
        """A question is over, however long it took."""
        self._free.release()

    def _refused(self, allowed: set[str]) -> str | None:
        where = f"{self._host}:{self._port}"
        if not {self._host, where} & allowed:
            return f"{where}: the owner allows no inputs to be sent there (EDGEWISE_AGENT_SERVE_ESCALATE_TO)"
        if not self._tls and self._host not in _HERE:
            return f"{where}: expected https, since it is not this machine"
        return None


class _Question(threading.Thread):
    """One request. It may outlive who asks: what hangs in the name service or in a handshake cannot be interrupted."""

    def __init__(self, server: Server, headers: dict[str, str], body: bytes) -> None:
        super().__init__(name="escalation", daemon=True)
        self._server, self.headers, self.body = server, headers, body
        self.error: str | None = None
        self.answer, self.header_length = b"", None
        self.done = False

    header_length: str | None

    def run(self) -> None:
        try:
            self._server.exchange(self)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.done = True
            self._server.release()


def _port(url: str) -> int:
    split = urlsplit(url)
    try:
        return split.port or (443 if split.scheme == "https" else 80)
    except ValueError:
        return 0
