"""A network's card: every neuron measured on real and attacked images, as tables and as one self-contained page."""
