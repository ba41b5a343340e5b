"""``make demo``: the whole path on a real cluster, with real output."""
