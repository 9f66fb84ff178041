"""Page of rehearsals at paper scale."""
