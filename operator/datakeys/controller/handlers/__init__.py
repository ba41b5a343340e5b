"""One module per kind: observe, ask a decision, carry it out at the edges. Zone: ciphertext only."""
