"""Notebooks run with checked parameters, results kept with their record, and the pages."""
