"""For every room: tests interrupt the processes that they start, and draw the same examples at every run."""

import signal

from hypothesis import settings

# A shell ignores SIGINT for what it starts in the background, and processes would inherit that from us.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines, since machines are busy, and the same draws everywhere: what passes here passes in CI.
settings.load_profile("ci")
