"""Chapter 5: which labelled concepts a channel overlaps with."""
