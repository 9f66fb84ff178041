"""Methods that distill class outputs or boxes."""
