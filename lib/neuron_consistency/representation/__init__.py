"""Chapter 6: how adversarial images are represented beside clean ones."""
