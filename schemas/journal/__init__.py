"""The journal: where an event is on disk before its pixel is answered.

    DATA/journal/<journal id>/lock                 held by the one process that writes
                             /<first seq>.seg      segments: frames, back to back
                             /position             the next seq to ship (or to count, embedded)

Rules
- A journal is written by one process, once: every start makes a new one. While its lock is held
  it is live; after that it is sealed for ever and only read. So a seq never names two events,
  also not after a power loss, a restored backup, a copied directory or an orphaned worker.
- A frame is whole or it is nothing: magic, CRC (seeded, so that zeros are no frame), first seq,
  count, length, and a block of NDJSON lines.
- At the end of a live journal a broken frame means: not written yet, wait. Anywhere else it is
  damage: it is set aside in `quarantine`, counted, and reading goes on at the next whole frame.
- Readers repeat after a crash, never skip: the position is written after what it covers is safe.
- A segment is deleted when all of it is behind the position and it has been kept long enough.
"""
