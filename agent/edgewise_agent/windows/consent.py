"""Raw samples leave only under the owner's opt-in. The budget is pure; ``Samples`` keeps it and makes the batches.

Rules that hold here:
- the owner's consent is a file on the device, written by ``edgewise-agent consent``; nobody else can give it;
- what may go is the smaller of the owner's budget (over all requests) and the hub's request (for each request);
- spent is on disk before a batch is spooled: a power cut may waste some budget, never exceed it;
- consent withdrawn: what is not acknowledged yet is emptied on disk, and nothing more is taken.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgewise.errors import EdgewiseError, WireError
from edgewise.wire import control
from edgewise.wire.codec import Count, Name, decode_msgpack, encode_msgpack
from edgewise.wire.windows import Samples
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.store.disk import Disk, read
from edgewise_agent.windows.spool import Spool

CONSENT_FILE = "consent.json"
SPENT_FILE = "spent.json"
BATCH_BYTES = 64 * 1024
BATCH_S = 2.0
MAX_REQUESTS = 64
"""Requests remembered for a model: the oldest is forgotten; the owner's own budget holds whatever comes."""
_BOUND = 1024 * 1024


class ConsentDamaged(EdgewiseError):
    """A consent file that cannot be read means no consent."""

    code = "consent-damaged"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner opted in to for one model: so many samples, so many bytes, over all requests."""

    count: Count
    bytes: Count


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What has been taken for one model: in all, and by request as [count, bytes]."""

    count: Count = 0
    bytes: Count = 0
    requests: dict[Name, list[Count]] = {}


def allows(grant: Grant | None, request: control.SampleRequest | None, spent: Spent, size: int) -> bool:
    """May one more sample of ``size`` bytes be taken?"""
    if grant is None or request is None:
        return False
    count, used = spent.requests.get(request.id, [0, 0])
    return (
        spent.count + 1 <= grant.count
        and spent.bytes + size <= grant.bytes
        and count + 1 <= request.count
        and used + size <= request.bytes
    )


def spend(spent: Spent, request: str, size: int) -> Spent:
    """After one more sample."""
    count, used = spent.requests.get(request, [0, 0])
    others = {name: value for name, value in spent.requests.items() if name != request}
    newest = dict([*others.items(), (request, [count + 1, used + size])][-MAX_REQUESTS:])
    return Spent(count=spent.count + 1, bytes=spent.bytes + size, requests=newest)


def load_grants(data: Path) -> dict[str, Grant]:
    """The owner's consent by model; no file, no consent. Raises ConsentDamaged."""
    content = read(data / CONSENT_FILE, _BOUND)
    try:
        return {} if content is None else msgspec.json.decode(content, type=dict[Name, Grant])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConsentDamaged(f"{data / CONSENT_FILE}: {error}; run edgewise-agent consent again") from error


def save_grants(disk: Disk, data: Path, grants: dict[str, Grant]) -> None:
    """Write the owner's consent, durably. Raises DiskError."""
    disk.replace(data / CONSENT_FILE, msgspec.json.format(msgspec.json.encode(grants)))


class Batch:
    """Samples of one (model, bundle, request) that will leave together."""

    def __init__(self, first: SampleTaken, request: str, now: float) -> None:
        self.request, self.since, self.taken, self.size = request, now, [first], len(first.sample.input)

    def takes(self, taken: SampleTaken, request: str) -> bool:
        """Does one more fit?"""
        same = (taken.bundle, taken.shape, request) == (self.taken[0].bundle, self.taken[0].shape, self.request)
        return same and self.size + len(taken.sample.input) <= BATCH_BYTES and len(self.taken) < 1024


class SampleKeeper:
    """Consent, what is spent, and the batches on their way into the spool."""

    def __init__(self, disk: Disk, data: Path, device: str, spool: Spool) -> None:
        """Raises ConsentDamaged when what was spent cannot be read: without it nothing may be taken."""
        self._disk, self._data, self._device, self._spool = disk, data, device, spool
        self._batches: dict[str, Batch] = {}
        self.grants: dict[str, Grant] = {}
        self._is_applied = False  # to what waits: consent may have been withdrawn while no agent ran, or power was cut
        content = read(data / SPENT_FILE, _BOUND)
        try:
            self.spent = {} if content is None else msgspec.json.decode(content, type=dict[Name, Spent])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConsentDamaged(f"{data / SPENT_FILE}: {error}") from error

    def refresh(self) -> bool:
        """Read the consent file again; True when it changed. A damaged one withdraws all. Raises DiskError."""
        try:
            grants = load_grants(self._data)
        except ConsentDamaged:
            grants = {}
        if grants == self.grants and self._is_applied:
            return False
        self.grants, self._is_applied = grants, False
        withdrawn = {model for model in self._batches if model not in grants}
        for model in withdrawn:
            del self._batches[model]
        self._spool.rewrite(self._emptied)
        self._is_applied = True
        return True

    def _emptied(self, data: bytes) -> bytes:
        try:
            batch = decode_msgpack(data, Samples)
        except WireError:
            return data  # the disk lost it: there is nothing in it
        return data if batch.model in self.grants else encode_msgpack(msgspec.structs.replace(batch, samples=[]))

    def wanted(self, model: str, request: control.SampleRequest | None) -> bool:
        """Is there any budget left, so that the serve child shall keep inputs?"""
        return allows(self.grants.get(model), request, self.spent.get(model, Spent()), 1)

    def take(self, taken: SampleTaken, request: control.SampleRequest | None, now: float) -> bool:
        """Take one sample if both budgets allow it. Raises DiskError."""
        spent = self.spent.get(taken.model, Spent())
        size = len(taken.sample.input)
        if request is None or not allows(self.grants.get(taken.model), request, spent, size):
            return False
        batch = self._batches.get(taken.model)
        if batch is not None and not batch.takes(taken, request.id):
            self._close(taken.model)
            batch = None
        if batch is None:
            self._batches[taken.model] = Batch(taken, request.id, now)
        else:
            batch.taken.append(taken)
            batch.size += size
        self.spent[taken.model] = spend(spent, request.id, size)
        return True

    def poll(self, now: float, *, last: bool = False) -> None:
        """Spool the batches that are full or old enough. Raises DiskError."""
        for model in list(self._batches):
            batch = self._batches[model]
            if last or batch.size >= BATCH_BYTES or now - batch.since >= BATCH_S:
                self._close(model)

    def _close(self, model: str) -> None:
        self._disk.replace(self._data / SPENT_FILE, msgspec.json.encode(self.spent))
        batch = self._batches.pop(model)
        first = batch.taken[0]

        def build(epoch: int, sequence: int) -> bytes:
            return encode_msgpack(
                Samples(
                    device=self._device,
                    epoch=epoch,
                    first=sequence,
                    last=sequence,
                    request_id=batch.request,
                    model=first.model,
                    version=first.version,
                    bundle=first.bundle,
                    dtype=first.dtype,
                    shape=first.shape,
                    samples=[taken.sample for taken in batch.taken],
                )
            )

        self._spool.add(build)

    def report(self) -> dict[str, control.Consent]:
        """For ``Reported``: what the owner opted in to, and how much of it is spent."""
        report: dict[str, control.Consent] = {}
        for model, grant in self.grants.items():
            spent = self.spent.get(model, Spent())
            report[model] = control.Consent(
                count=grant.count, bytes=grant.bytes, sent_count=spent.count, sent_bytes=spent.bytes
            )
        return report
