"""Images with the regions that the methods of a trained run use."""
