"""The vocabulary that all processes share. Zone: no secrets, no I/O, no clock, standard library only."""
