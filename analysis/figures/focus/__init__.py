"""Focus: the regions of an image that the methods of a trained run use (``kd draw``)."""
