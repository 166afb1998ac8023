"""Rendered scenes whose every pixel has labels."""
