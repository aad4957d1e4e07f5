"""Questions put to a table: how well densities fit, what mixing does, what to recommend."""
