"""Start with own data: read a labeled folder, and propose a data set entry and a study."""
