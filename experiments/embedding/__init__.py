"""Study 1, its structure: critical points of narrow networks in the landscapes of wide ones."""
