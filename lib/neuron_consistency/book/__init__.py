"""The pages of the book: how a notebook opens, what stands under its tables, the kept studies and the ledger."""
