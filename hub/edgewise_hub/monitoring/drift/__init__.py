"""Drift tests: one file a test, one panel."""
