"""Planning: the gains that a study's seeds detect, and the seeds to add next."""
