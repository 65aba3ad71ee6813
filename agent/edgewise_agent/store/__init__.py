"""What the device keeps: installs and duties, blobs by sha256. Every write goes through ``store.disk``."""
