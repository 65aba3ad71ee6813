"""The device: where its resources are read (``system``, ``power``, ``gpu``), and how they are told (``meter``)."""
