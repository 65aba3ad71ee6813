"""The agent's own update: a release is a bundle of the reserved model ``edgewise-agent`` whose blobs are wheels.

``slots.py`` (pure: which install of the agent starts, and when it goes back), ``wheels.py`` (wheels into a slot),
``own.py`` (the agent's side: stage, confirm, report). ``edgewise_agent.launch`` starts the slots.
"""

AGENT = "edgewise-agent"
"""The reserved model. Nothing of it is served."""
RUNTIME = "agent"
"""What its manifests say in the place of a runtime."""
