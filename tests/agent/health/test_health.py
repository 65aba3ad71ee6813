"""A device tells its resources as far as it can, and nothing that a broken sensor made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from boards import BOARDS, JETSON, LAPTOP, PROC, RASPBERRY_PI, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.sketch import SketchSpec
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise.wire.health import GAUGES, TOTALS, Gauge, Health, add_gauges, observe
from edgewise_agent.health import gpu, power, system
from edgewise_agent.health.energy import metered
from edgewise_agent.health.meter import SAMPLE_S, HealthClosed, Meter
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.windows import merging
from edgewise_agent.windows.collector import Collector


def meter(root: Path, now: float = 0.0) -> Meter:
    return Meter(now, lambda: 5_000_000, lambda: 70_000_000, root)


def closed(meter: Meter, now: float) -> HealthClosed:
    found = meter.poll(now, 0.0)
    assert found is not None
    return found


def test_proc_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, PROC)
    ticks = system.ticks(tmp_path)
    assert ticks is not None and (ticks.busy, ticks.total) == (497054, 652700)
    assert system.memory(tmp_path) == ((24684092 - 22488116) * 1024, 24684092 * 1024)
    assert system.traffic(tmp_path) == (3_000_000, 1_200_000), "without the loopback"
    assert system.temperature(tmp_path) is system.throttled(tmp_path) is system.throttle_events(tmp_path) is None


def test_this_machine() -> None:
    """The real /proc of whatever runs the tests."""
    root = Path("/")
    if not (root / "proc/stat").exists():
        pytest.skip("no /proc")
    found = closed(meter(root), 60.0)
    assert found.gauges["memory"].mean < found.gauges["memory_total"].mean
    assert 0 <= found.gauges.get("cpu", Gauge(1, 0.0, 0.0, 0.0)).mean <= 1
    assert set(found.gauges) <= set(GAUGES) and set(found.totals) <= set(TOTALS)


def test_what_boards_tell(tmp_path: Path) -> None:
    pi, jetson, laptop = (write(tmp_path / str(i), board) for i, board in enumerate((RASPBERRY_PI, JETSON, LAPTOP)))
    assert (system.temperature(pi), system.temperature(jetson), system.temperature(laptop)) == (61.322, 48.5, 57.0)
    assert (system.throttled(pi), system.throttled(jetson), system.throttled(laptop)) == (False, True, False)
    (pi / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text("50005\n")
    assert system.throttled(pi) is True
    assert system.throttle_events(laptop) == 10
    assert gpu.jetson_load(jetson) == 0.734 and gpu.jetson_load(pi) is None
    assert power.watts(jetson) == pytest.approx(6.048), "the rail that feeds the others"
    assert power.rapl(laptop) == {"intel-rapl:0": (1_000_000, 262_143_328_850)}, "packages, not their parts"
    assert gpu.Nvidia(jetson).read() == {}


def test_a_span_has_means_and_what_was_counted_in_it(tmp_path: Path) -> None:
    write(tmp_path, LAPTOP)
    device = meter(tmp_path)
    assert device.poll(SAMPLE_S - 1, 60.0) is None
    (tmp_path / "proc/stat").write_text("cpu  203657 225252 65578 153850 2096 0 1903 764 0 0\n")
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("51000000\n")
    (tmp_path / "proc/net/dev").write_text(
        PROC["proc/net/dev"].replace("1000000", "1000600").replace("700000", "700050")
    )
    (tmp_path / "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count").write_text("9\n")
    assert device.poll(SAMPLE_S, 60.0) is None
    (tmp_path / "sys/class/hwmon/hwmon0/temp2_input").write_text("77000\n")
    found = closed(device, 2 * SAMPLE_S)
    assert found.duration == 2 * SAMPLE_S
    assert found.gauges["cpu"] == Gauge(1, 0.25, 0.25, 0.25), "nothing ran between the second pair"
    assert found.gauges["temperature"] == Gauge(2, 134.0, 57.0, 77.0)
    assert found.gauges["power"] == Gauge(2, 5.0, 0.0, 5.0)
    assert found.gauges["agent_memory"].mean == 70_000_000 and found.gauges["disk_free"].mean == 5_000_000
    assert found.totals == {"received_bytes": 600, "sent_bytes": 50, "energy_mj": 50_000, "throttle_events": 3}
    again = closed(device, 3 * SAMPLE_S)
    assert again.totals["received_bytes"] == 0, "counted once"


def test_counters_that_wrap_or_go_back(tmp_path: Path) -> None:
    wraps = {"p": (262_143_328_850 - 1000, 262_143_328_850)}
    assert power.between(wraps, {"p": (500, 262_143_328_850)}) == 1500
    assert power.between(wraps, {}) is None
    write(tmp_path, PROC)
    device = meter(tmp_path)
    (tmp_path / "proc/net/dev").write_text(PROC["proc/net/dev"].replace("1000000", "10"))
    assert closed(device, SAMPLE_S).totals["received_bytes"] == 0


def test_watts_become_energy_over_the_time_that_passed(tmp_path: Path) -> None:
    write(tmp_path, JETSON)
    assert closed(meter(tmp_path), 2 * SAMPLE_S).totals["energy_mj"] == round(6.048 * 2 * SAMPLE_S * 1000)


def closed_window(busy_s: list[float], duration: float = 60.0) -> WindowClosed:
    """What a real collector says of requests that took so long."""
    collector = Collector(
        model="m",
        version=1,
        bundle="b" * 64,
        spec=SketchSpec(),
        spec_digest="c" * 64,
        projection=None,
        window_s=duration,
        now=0.0,
        clock=0.0,
    )
    for latency_s in busy_s:
        collector.record(1, 0, latency_s, None, None)
    collector.count("errors")
    window = collector.poll(duration, duration)
    assert window is not None
    return window


def test_an_inference_costs_the_boards_power_while_it_ran(tmp_path: Path) -> None:
    jetson = meter(write(tmp_path / "jetson", JETSON))
    assert jetson.watts(0.0, 60.0) is None, "nothing was measured yet"
    for now in range(10, 70, 10):
        jetson.poll(float(now), 1e9)
    watts = jetson.watts(60.0, 60.0)
    assert watts == pytest.approx(6.048)
    window = metered(closed_window([0.02] * 500), watts)
    assert window.counters.energy_mj == round(6.048 * 10.0 * 1000), "500 requests of 20 ms: 10 s at 6 W"
    assert window.counters.energy_mj / window.counters.inferences == pytest.approx(121, abs=1)
    crowded = metered(closed_window([1.0] * 300), watts)
    assert crowded.counters.energy_mj == round(6.048 * 60.0 * 1000), "at once: never more than the board drew"
    idle = metered(closed_window([]), watts)
    assert idle.counters.energy_mj == 0


def test_only_the_energy_of_the_windows_time_counts(tmp_path: Path) -> None:
    write(tmp_path, LAPTOP)
    laptop, package = meter(tmp_path), tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    for second, microjoules in ((10, 51_000_000), (20, 101_000_000), (30, 401_000_000)):
        package.write_text(f"{microjoules}\n")
        laptop.poll(float(second), 1e9)
    assert laptop.watts(30.0, 10.0) == pytest.approx(30.0)
    assert laptop.watts(30.0, 0.5) == pytest.approx(30.0), "the newest reading, where the window is shorter than one"
    assert laptop.watts(30.0, 20.0) == pytest.approx(17.5)
    assert laptop.watts(30.0, 1e6) == pytest.approx(400 / 30), "as far back as is known"
    package.unlink()
    laptop.poll(40.0, 1e9)
    assert laptop.watts(40.0, 10.0) is None, "the sensor is gone: nobody knows"


@pytest.mark.parametrize("board", ["raspberry-pi", "container", "nothing"])
def test_a_board_that_does_not_tell_its_power_costs_nothing_that_is_known(tmp_path: Path, board: str) -> None:
    device = meter(write(tmp_path, BOARDS[board]))
    for now in (10.0, 20.0):
        device.poll(now, 1e9)
    assert device.watts(20.0, 20.0) is None
    assert metered(closed_window([0.02]), None).counters.energy_mj == 0


@pytest.mark.parametrize("board", BOARDS)
def test_each_board_fits_its_message(tmp_path: Path, board: str) -> None:
    found = closed(meter(write(tmp_path, BOARDS[board])), 60.0)
    health = Health(
        device="d" * 64,
        epoch=2**52,
        first=1,
        last=1,
        start=1e9,
        duration=60.0,
        gauges=found.gauges,
        totals=found.totals,
    )
    assert len(encode_msgpack(health)) < 1024


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    board=st.sampled_from([JETSON, LAPTOP, RASPBERRY_PI]),
    file=st.integers(0, 30),
    content=st.one_of(
        st.sampled_from(["", "\n", "nan", "-1", "9" * 400, "0x", "cpu", "cpu a b c d e f g h", "eth0: a", "1e9"]),
        st.text(),
    ),
)
def test_whatever_a_sensor_says(tmp_path: Path, board: dict[str, str], file: int, content: str) -> None:
    write(tmp_path, board)
    path = tmp_path / sorted(board)[file % len(board)]
    device = meter(tmp_path)
    path.write_text(content, encoding="utf-8", errors="surrogatepass")
    for now in (10.0, 20.0):
        found = closed(device, now)
        Health(device="d", epoch=1, first=1, last=1, start=0.0, duration=1.0, gauges=found.gauges, totals=found.totals)
        assert all(0 <= total < 2**53 for total in found.totals.values())


GAUGE = st.lists(st.integers(-1000, 1000), min_size=1, max_size=8)


@given(GAUGE, GAUGE)
def test_gauges_merge_as_if_sampled_together(a: list[int], b: list[int]) -> None:
    def of(samples: list[int]) -> dict[str, Gauge]:
        gauge: Gauge | None = None
        for sample in samples:
            gauge = observe(gauge, float(sample))
        return {"x": gauge} if gauge is not None else {}

    assert add_gauges(of(a), of(b)) == of(a + b)


def test_health_that_waits_merges(tmp_path: Path) -> None:
    found = closed(meter(write(tmp_path, LAPTOP)), 60.0)
    data = encode_msgpack(
        Health(
            device="d",
            epoch=1,
            first=1,
            last=1,
            start=0.0,
            duration=60.0,
            gauges=found.gauges,
            totals={"sent_bytes": 4},
        )
    )
    both = merging.HEALTH.merge(data, data)
    assert both is not None
    merged = decode_msgpack(both, Health)
    assert merged.gauges["temperature"].n == 2 * found.gauges["temperature"].n and merged.totals == {"sent_bytes": 8}
