"""One module a revision; see `metadb.migrations`."""
