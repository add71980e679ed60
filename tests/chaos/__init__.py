"""A seeded random schedule of faults under clients that log in, and what must hold at the end."""
