"""For every room: tests interrupt the processes that they start."""

import signal

# A shell ignores SIGINT for what it starts in the background, and processes would inherit that from us.
signal.signal(signal.SIGINT, signal.default_int_handler)
