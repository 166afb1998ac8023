"""Chapter 8: whether the explanation of an image survives an attack on its background."""
