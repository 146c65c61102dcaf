-- One row an event, named by (journal, seq), which is unique.
CREATE TABLE IF NOT EXISTS {database}.events{local}{on_cluster}
(
    journal LowCardinality(String) CODEC(ZSTD(1)),
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String),
    campaign LowCardinality(String),
    send LowCardinality(String),
    recipient String CODEC(ZSTD(1)),
    message_id String CODEC(ZSTD(1)),
    sent_at DateTime('UTC') CODEC(T64, ZSTD(1)),
    link String CODEC(ZSTD(1)),
    method LowCardinality(String),
    address String CODEC(ZSTD(1)),
    user_agent LowCardinality(String),
    accept_language LowCardinality(String),
    referer LowCardinality(String),
    prefetch LowCardinality(String),
    key_id LowCardinality(String),
    -- The look for what is there already touches only the granules of the journals and seqs asked.
    INDEX by_journal journal TYPE minmax GRANULARITY 1,
    INDEX by_seq seq TYPE minmax GRANULARITY 1,
    -- Totals per campaign, kind and hour. It lives in the part: rows and counts come in one rename.
    PROJECTION counts
    (
        SELECT campaign, kind, toStartOfHour(ts), count()
        GROUP BY campaign, kind, toStartOfHour(ts)
    )
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (campaign, kind, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;

-- Lines that are no event, with the reason; keyed by where they stood.
CREATE TABLE IF NOT EXISTS {database}.dead_letter{local}{on_cluster}
(
    topic LowCardinality(String),
    partition Int32,
    `offset` Int64,
    line UInt32,
    journal String,
    seq UInt64,
    reason String,
    raw String CODEC(ZSTD(3)),
    at DateTime('UTC')
)
ENGINE = {replicated}ReplacingMergeTree(at)
ORDER BY (topic, partition, `offset`, line, journal, seq)
SETTINGS fsync_after_insert = 1;

-- What the consumer has taken from each journal, written when it is verified in the store.
CREATE TABLE IF NOT EXISTS {database}.taken{local}{on_cluster}
(
    journal LowCardinality(String),
    first_seq UInt64 CODEC(Delta, ZSTD(1)),
    last_seq UInt64 CODEC(Delta, ZSTD(1)),
    events UInt64,
    first_ts DateTime64(3, 'UTC'),
    last_ts DateTime64(3, 'UTC'),
    expired UInt64, -- of the events: older than the retention when they came
    at DateTime('UTC')
)
ENGINE = {replicated}ReplacingMergeTree(at)
ORDER BY (journal, first_seq, last_seq);
