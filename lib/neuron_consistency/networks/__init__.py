"""The architectures, and how their layers are read."""
