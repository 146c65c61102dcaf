-- The key of the hashes below: who has only these cannot tell whose they are.
CREATE TABLE IF NOT EXISTS {database}.erasure_key{local}{on_cluster}
(
    key0 UInt64,
    key1 UInt64
)
ENGINE = {replicated}MergeTree
ORDER BY key0;

INSERT INTO {database}.erasure_key{local}
SELECT rand64(1), rand64(2) WHERE (SELECT count() FROM {database}.erasure_key{local}) = 0;

-- Who was erased, as a keyed hash of the recipient: no event of theirs up to `until` is stored again.
CREATE TABLE IF NOT EXISTS {database}.erasures{local}{on_cluster}
(
    hash UInt64,
    until UInt64, -- Unix milliseconds
    at DateTime64(3, 'UTC')
)
ENGINE = {replicated}ReplacingMergeTree(at)
ORDER BY hash;

-- The names of events that were erased, or came again and were kept out: what an audit finds missing.
CREATE TABLE IF NOT EXISTS {database}.erased{local}{on_cluster}
(
    journal LowCardinality(String),
    seq UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (journal, seq)
SETTINGS fsync_after_insert = 1;
