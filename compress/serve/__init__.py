"""A bundle over HTTP: requests batched for one model, several processes, a new bundle without a pause."""
