"""Topics: built and parsed in one place, and no name can widen one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import WireError
from edgewise.wire import topics

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(names, names)
def test_every_topic_parses_back_and_stays_within_seven_slashes(tenant, device):
    built = {
        "desired": topics.desired(tenant, device),
        "reported": topics.reported(tenant, device),
        "presence": topics.presence(tenant, device),
        "progress/12": topics.progress(tenant, device, 12),
        "windows/inference": topics.windows(tenant, device, "inference"),
        "sample/samples": topics.sample(tenant, device, "samples"),
        "ack/inference": topics.ack(tenant, device, "inference"),
        "blob/get": topics.blob_request(tenant, device),
        "blob/block": topics.blob_block(tenant, device),
    }
    for expected, topic in built.items():
        kind, _, rest = expected.partition("/")
        assert topics.parse(topic) == topics.Topic(tenant, device, kind, rest)
        assert topic.count("/") <= 7


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a+", "$SYS", "-a", "a b", "a\n", "a" * 65, "ä", "a\0"])
def test_a_name_that_could_widen_a_topic_is_refused(name):
    for tenant, device in ((name, "d"), ("t", name)):
        with pytest.raises(WireError, match="expected a name of letters"):
            topics.desired(tenant, device)


@pytest.mark.parametrize("topic", ["", "ew/1", "ew/1/t/d/x", "ew/2/t/d/x/desired", "ew/1/t/e/x/desired", "x/1/t/d/x/y"])
def test_any_other_topic_is_refused(topic):
    with pytest.raises(WireError, match="expected ew/1/TENANT/d/DEVICE/KIND"):
        topics.parse(topic)
