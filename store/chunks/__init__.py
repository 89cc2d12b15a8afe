"""The bytes side: immutable runs on erasure-coded local drives. `types` has the interface.

    pool = open_drives(paths)              # in a thread or before the loop
    chunks = LocalChunks(pool, ChunkConfig(), on_event)
    await nursery.start(chunks.run)
    await chunks.adopt(segments, named_runs)

The submodules are imported by name; this one stays empty so that the fake and the types cost
nothing.
"""
