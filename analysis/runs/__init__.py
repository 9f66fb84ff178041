"""Groups of runs that tables and figures compare, and their titles in print."""
