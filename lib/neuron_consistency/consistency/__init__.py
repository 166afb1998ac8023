"""Chapters 1 to 4: how consistent the concepts of a neuron are."""
