-- What a hit was judged to be, by which rule, and under which rules; '' where nothing was judged.
ALTER TABLE {database}.events{local}{on_cluster}
ADD COLUMN IF NOT EXISTS class Enum8(
    '' = 0, 'human' = 1, 'proxy' = 2, 'prefetch' = 3, 'scanner' = 4, 'self' = 5, 'unknown' = 6
),
ADD COLUMN IF NOT EXISTS rule LowCardinality(String),
ADD COLUMN IF NOT EXISTS ruleset LowCardinality(String);
ALTER TABLE {database}.events{on_cluster}
ADD COLUMN IF NOT EXISTS class Enum8(
    '' = 0, 'human' = 1, 'proxy' = 2, 'prefetch' = 3, 'scanner' = 4, 'self' = 5, 'unknown' = 6
),
ADD COLUMN IF NOT EXISTS rule LowCardinality(String),
ADD COLUMN IF NOT EXISTS ruleset LowCardinality(String);

-- The lists of networks that were loaded by `heliograph networks load`, beside those of the rules.
-- Of a list what came last counts; '' alone says that it was dropped.
CREATE TABLE IF NOT EXISTS {database}.networks{local}{on_cluster}
(
    list LowCardinality(String),
    network String,
    at DateTime64(3, 'UTC')
)
ENGINE = {replicated}MergeTree
ORDER BY (list, at, network);

-- What a run of the rules about several hits has found, until the verdicts are revised.
CREATE TABLE IF NOT EXISTS {database}.revisions{local}{on_cluster}
(
    run String,
    journal LowCardinality(String),
    seq UInt64,
    place UInt16, -- of the rule in its order
    at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}MergeTree
PARTITION BY run
ORDER BY (place, journal, seq)
TTL at + INTERVAL 1 DAY;

-- The rules of each version as its dictionaries read them: by their place, by patterns of agents,
-- and the lists that hold a network.
CREATE TABLE IF NOT EXISTS {database}.rules_places{local}{on_cluster}
(
    version LowCardinality(String),
    place UInt64,
    class String,
    rule String,
    home String, -- a list of networks; what comes from elsewhere is somebody else's
    at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (version, place);

CREATE TABLE IF NOT EXISTS {database}.rules_agents{local}{on_cluster}
(
    version LowCardinality(String),
    id UInt64,
    parent_id UInt64,
    regexp String,
    keys Array(String),
    `values` Array(String),
    at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (version, id);

CREATE TABLE IF NOT EXISTS {database}.rules_networks{local}{on_cluster}
(
    version LowCardinality(String),
    network String,
    lists String,
    at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree
ORDER BY (version, network);
