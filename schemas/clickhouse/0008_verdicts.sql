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
CREATE TABLE IF NOT EXISTS {database}.networks{local}{on_cluster}
(
    list LowCardinality(String),
    network String,
    at DateTime('UTC')
)
ENGINE = {replicated}MergeTree
ORDER BY (list, network);

-- The rules of each version as its dictionaries read them: agents by pattern, lists by network.
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
