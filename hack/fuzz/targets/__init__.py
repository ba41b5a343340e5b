"""The targets, a module each, with a function ``build``."""
