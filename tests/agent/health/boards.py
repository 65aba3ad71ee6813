"""Trees of /proc and /sys as real boards have them, written below a folder."""

from __future__ import annotations

# ruff: noqa: E501  # lines as the kernel writes them
from pathlib import Path

PROC = {
    "proc/stat": "cpu  203557 225252 65578 153550 2096 0 1903 764 0 0\ncpu0 104988 102174 31401 85644 1082 0 600 387 0 0\n",
    "proc/meminfo": "MemTotal:       24684092 kB\nMemFree:        16942432 kB\nMemAvailable:   22488116 kB\nBuffers: 1 kB\n",
    "proc/net/dev": (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
        "    lo: 1895131308 2932398    0    0    0     0          0         0 1895131308 2932398    0    0    0     0       0          0\n"
        "  eth0: 1000000 1000    0    0    0     0          0         0 500000 900    0    0    0     0       0          0\n"
        "wlan0:2000000 1000    0    0    0     0          0         0 700000 900    0    0    0     0       0          0\n"
    ),
}  # fmt: skip

RASPBERRY_PI = {
    **PROC,
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61322\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
}

JETSON = {
    **PROC,
    "sys/class/thermal/thermal_zone0/temp": "45000\n",
    "sys/class/thermal/thermal_zone1/temp": "48500\n",
    "sys/class/thermal/thermal_zone2/temp": "-256000\n",  # not connected
    "sys/devices/platform/17000000.ga10b/load": "734\n",
    "sys/class/hwmon/hwmon4/name": "ina3221\n",
    "sys/class/hwmon/hwmon4/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon4/in1_input": "5040\n",
    "sys/class/hwmon/hwmon4/curr1_input": "1200\n",
    "sys/class/hwmon/hwmon4/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon4/in2_input": "5032\n",
    "sys/class/hwmon/hwmon4/curr2_input": "400\n",
    "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device1/cur_state": "2\n",
}

LAPTOP = {
    **PROC,
    "sys/class/hwmon/hwmon0/name": "coretemp\n",
    "sys/class/hwmon/hwmon0/temp1_input": "52000\n",
    "sys/class/hwmon/hwmon0/temp2_input": "57000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "6\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "400000\n",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
    "sys/class/thermal/cooling_device0/type": "Processor\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
}

BOARDS = {"raspberry-pi": RASPBERRY_PI, "jetson": JETSON, "laptop": LAPTOP, "container": PROC, "nothing": {}}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
