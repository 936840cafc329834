"""Pages for people: one self-contained HTML document each, pictures inside, no script."""
