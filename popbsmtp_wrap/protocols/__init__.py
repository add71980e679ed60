"""Wire protocols: bytes in, bytes out, no I/O."""
