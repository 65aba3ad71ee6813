"""The hub: registry, fleet, rollouts, monitoring, learning, API."""
