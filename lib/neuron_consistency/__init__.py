"""Neuron consistency: measures, attacks and trainings of a reproducible paper (see the book)."""
