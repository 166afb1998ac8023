"""Numbers that the library gave, kept: a change of the code that moves one is seen, and is a decision."""
