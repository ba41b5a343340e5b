"""What to do, decided without doing it. Zone: ciphertext only, no I/O; clock and randomness are arguments."""
