"""Devices, groups, enrollment, and the desired state of each device."""
