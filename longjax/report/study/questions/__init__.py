"""Questions that a study settles: one file each, which makes a section of its page from the trials."""
