"""Records of keys, aliases and grants. Zone: sealed material only; a root key is an opaque handle here."""
