"""Which install answers a request, and how two installs are held against each other. Pure, all of it."""
