"""A trained teacher, and the cache of what it says."""
