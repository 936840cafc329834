"""Adversarial networks that score rows: `architecture` says which, `scorer` reads them again."""
