"""Adversarial images, stored sets of them, and what networks say of them."""
