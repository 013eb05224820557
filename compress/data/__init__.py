"""Files in, examples out: the only room that reads users' data."""
