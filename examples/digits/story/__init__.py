"""The story of ``scripts/demo``: twelve cameras, three versions, one slip, one lesson.

It uses only what a user has: ``edgewise``, ``edgewise-agent`` and the Python client.
"""
