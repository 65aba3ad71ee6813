"""The hub's resources in plain groups: ``client.devices.list()``, ``client.rollouts.create(...)``.

One class a resource, one method a request; lists hide their pages, and ``limit`` keeps the first so many, newest first
unless said otherwise. Every method raises HubError when the hub refuses or does not answer.
"""

from edgewise.endpoints.experiments import Experiments
from edgewise.endpoints.fleet import Devices, Groups, Profiles, Tokens
from edgewise.endpoints.jobs import JobError, Jobs
from edgewise.endpoints.learning import Samples, Training, Triggers
from edgewise.endpoints.monitoring import Alerts, Drift
from edgewise.endpoints.registry import Blobs, Models
from edgewise.endpoints.rollouts import Rollouts

__all__ = [
    "Alerts",
    "Blobs",
    "Devices",
    "Drift",
    "Experiments",
    "Groups",
    "JobError",
    "Jobs",
    "Models",
    "Profiles",
    "Rollouts",
    "Samples",
    "Tokens",
    "Training",
    "Triggers",
]
