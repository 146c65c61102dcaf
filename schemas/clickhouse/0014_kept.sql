-- consent: what the recipient allows to be kept, '' is all (schemas/consent.py). line: tells the hits of one address
-- from those of others in its network, by a salt that is forgotten; 0 where that is not known.
-- (On a cluster both tables have them.)
ALTER TABLE {database}.events{local}{on_cluster}
ADD COLUMN IF NOT EXISTS consent LowCardinality(String),
ADD COLUMN IF NOT EXISTS line UInt16;
ALTER TABLE {database}.events{on_cluster}
ADD COLUMN IF NOT EXISTS consent LowCardinality(String),
ADD COLUMN IF NOT EXISTS line UInt16;

-- The salts of `line`, one an hour.
CREATE TABLE IF NOT EXISTS {database}.salts{local}{on_cluster}
(
    hour DateTime('UTC'),
    salt UInt64
)
ENGINE = {replicated}MergeTree
ORDER BY hour
TTL hour + INTERVAL 2 HOUR
SETTINGS merge_with_ttl_timeout = 3600;

-- Of an address its network is kept. In the background, of what is there already.
ALTER TABLE {database}.events{local}{on_cluster}
UPDATE address = {network} WHERE address != {network};
