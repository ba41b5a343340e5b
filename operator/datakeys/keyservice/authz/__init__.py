"""Who may do what. Zone: no secrets, pure: no I/O, no clock, no randomness."""
