"""Methods that distill maps of the backbone, the neck or pooled regions."""
