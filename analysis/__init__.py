"""Tables and figures: pure functions from the files of runs to a frame, a text or a figure."""
