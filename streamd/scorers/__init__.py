"""Scorers: torch models and formulas that give each row a number. `bundle` reads and writes their weights."""
