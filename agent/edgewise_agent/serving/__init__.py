"""The serve child: runtimes and HTTP in a process of their own, and the channel to its supervisor."""
