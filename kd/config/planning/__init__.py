"""Parts of planning: the cells of a table, and the cost of a step in multiply-adds."""
