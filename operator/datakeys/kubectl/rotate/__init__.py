"""``kubectl kms rotate``: ask for a rotation, and follow the re-encryption. Zone: names and counts only."""
