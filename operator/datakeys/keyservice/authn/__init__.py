"""Who is calling: tokens to principals. Zone: callers' tokens, which it never logs; no key material."""
