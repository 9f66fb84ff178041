"""Model cards: what a user of a trained detector must know, written from its run."""
