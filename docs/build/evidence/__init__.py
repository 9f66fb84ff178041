"""The data of the evidence, committed in ``docs/evidence``, and the page written from them."""
