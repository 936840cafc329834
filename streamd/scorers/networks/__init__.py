"""The architectures that reconstruct a row, one small module each."""
