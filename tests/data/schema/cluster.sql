-- 0001_events.sql

-- One row an event, named by (journal, seq), which is unique.
CREATE TABLE IF NOT EXISTS heliograph.events_local ON CLUSTER 'main'
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
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (campaign, kind, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0;

-- Lines that are no event, with the reason; keyed by where they stood.
CREATE TABLE IF NOT EXISTS heliograph.dead_letter_local ON CLUSTER 'main'
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
ENGINE = ReplicatedReplacingMergeTree(at)
ORDER BY (topic, partition, `offset`, line, journal, seq)
SETTINGS fsync_after_insert = 1;

-- What the consumer has taken from each journal, written when it is verified in the store.
CREATE TABLE IF NOT EXISTS heliograph.taken_local ON CLUSTER 'main'
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
ENGINE = ReplicatedReplacingMergeTree(at)
ORDER BY (journal, first_seq, last_seq);

-- 0002_distributed.cluster.sql

-- On a cluster every table is spread by its journal or place, and read through these.
CREATE TABLE IF NOT EXISTS heliograph.events ON CLUSTER 'main' AS heliograph.events_local
ENGINE = Distributed('main', heliograph, events_local, cityHash64(journal));

CREATE TABLE IF NOT EXISTS heliograph.dead_letter ON CLUSTER 'main' AS heliograph.dead_letter_local
ENGINE = Distributed('main', heliograph, dead_letter_local, cityHash64(topic, partition));

CREATE TABLE IF NOT EXISTS heliograph.taken ON CLUSTER 'main' AS heliograph.taken_local
ENGINE = Distributed('main', heliograph, taken_local, cityHash64(journal));

-- 0003_views.sql

-- a hit is any valid request of a pixel, HEAD included. Rates divide by recipients.

-- Recorded sends that were not taken back: one row a (campaign, send, recipient).
CREATE OR REPLACE VIEW heliograph.sends ON CLUSTER 'main' AS
SELECT
    campaign,
    send,
    recipient,
    argMaxIf(message_id, (ts, journal, seq), message_id != '') AS message_id,
    argMax(e.sent_at, (ts, journal, seq)) AS sent_at
FROM heliograph.events AS e
WHERE kind IN ('sent', 'cancelled')
GROUP BY campaign, send, recipient
HAVING argMax(kind, (ts, kind = 'cancelled', journal, seq)) = 'sent';

-- What each recipient of a campaign did. `sends` is 0 where no send is recorded.
CREATE OR REPLACE VIEW heliograph.readers ON CLUSTER 'main' AS
SELECT
    campaign,
    recipient,
    sum(is_send) AS sends,
    sum(is_hit) AS hits,
    sum(is_open) AS opens,
    sum(is_click) AS clicks,
    minIf(at, is_open) AS first_open,
    maxIf(at, is_open) AS last_open
FROM
(
    SELECT
        campaign, recipient, toDateTime64(sent_at, 3, 'UTC') AS at,
        1 AS is_send, 0 AS is_hit, 0 AS is_open, 0 AS is_click
    FROM heliograph.sends
    UNION ALL
    SELECT
        campaign, recipient, ts AS at,
        0, kind = 'open', kind = 'open' AND method = 'GET', kind = 'click' AND method = 'GET'
    FROM heliograph.events
    WHERE kind IN ('open', 'click')
)
GROUP BY campaign, recipient;

-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send.
-- hits, clicks: all of them. unique_opens, unique_clicks: recipients, of those with a send.
-- open_rate (apparent): recipients who opened or clicked / recipients. click_rate: who clicked.
CREATE OR REPLACE VIEW heliograph.campaigns ON CLUSTER 'main' AS
SELECT
    campaign,
    sum(r.sends) AS sends,
    countIf(r.sends > 0) AS recipients,
    sum(r.hits) AS hits,
    countIf(r.sends > 0 AND r.opens > 0) AS unique_opens,
    if(recipients = 0, NULL, countIf(r.sends > 0 AND (r.opens > 0 OR r.clicks > 0)) / recipients)
        AS open_rate,
    sum(r.clicks) AS clicks,
    countIf(r.sends > 0 AND r.clicks > 0) AS unique_clicks,
    if(recipients = 0, NULL, unique_clicks / recipients) AS click_rate
FROM heliograph.readers AS r
GROUP BY campaign;

-- Recipients without a recorded send: shown apart, in no rate.
CREATE OR REPLACE VIEW heliograph.unrecorded ON CLUSTER 'main' AS
SELECT
    campaign,
    count() AS recipients,
    sum(r.hits) AS hits,
    sum(r.opens) AS opens,
    sum(r.clicks) AS clicks
FROM heliograph.readers AS r
WHERE r.sends = 0
GROUP BY campaign;

-- Opens and clicks over time, in UTC. recipients: who opened in that hour or day.
CREATE OR REPLACE VIEW heliograph.opens_by_hour ON CLUSTER 'main' AS
SELECT
    campaign,
    toStartOfHour(ts) AS hour,
    countIf(kind = 'open' AND method = 'GET') AS opens,
    uniqExactIf(recipient, kind = 'open' AND method = 'GET') AS recipients,
    countIf(kind = 'click' AND method = 'GET') AS clicks
FROM heliograph.events
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW heliograph.opens_by_day ON CLUSTER 'main' AS
SELECT
    campaign,
    toDate(ts) AS day,
    countIf(kind = 'open' AND method = 'GET') AS opens,
    uniqExactIf(recipient, kind = 'open' AND method = 'GET') AS recipients,
    countIf(kind = 'click' AND method = 'GET') AS clicks
FROM heliograph.events
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

-- How long after the send people first opened: whole hours, and how many recipients did by then.
CREATE OR REPLACE VIEW heliograph.hours_since_send ON CLUSTER 'main' AS
SELECT
    campaign,
    hour,
    first_opens,
    sum(first_opens) OVER (PARTITION BY campaign ORDER BY hour) AS opened_by_then
FROM
(
    SELECT campaign, hour, count() AS first_opens
    FROM
    (
        SELECT
            campaign, recipient,
            intDiv(greatest(min(dateDiff('second', sent_at, ts)), 0), 3600) AS hour
        FROM heliograph.events
        WHERE kind = 'open' AND method = 'GET' AND toUnixTimestamp(sent_at) > 0
            AND (campaign, recipient) IN (SELECT campaign, recipient FROM heliograph.sends)
        GROUP BY campaign, recipient
    )
    GROUP BY campaign, hour
);

-- Who opened, and who never did (images may be blocked: no open seen is not unread).
CREATE OR REPLACE VIEW heliograph.opened ON CLUSTER 'main' AS
SELECT campaign, recipient, opens, clicks, first_open, last_open
FROM heliograph.readers
WHERE sends > 0 AND opens > 0;

CREATE OR REPLACE VIEW heliograph.never_opened ON CLUSTER 'main' AS
SELECT campaign, recipient, sends, clicks
FROM heliograph.readers
WHERE sends > 0 AND opens = 0;

-- Clicks by link. recipients: distinct people who clicked it.
CREATE OR REPLACE VIEW heliograph.top_links ON CLUSTER 'main' AS
SELECT campaign, link, count() AS clicks, uniqExact(recipient) AS recipients
FROM heliograph.events
WHERE kind = 'click' AND method = 'GET'
GROUP BY campaign, link;

-- Opens by the program that fetched the pixel, as it names itself.
CREATE OR REPLACE VIEW heliograph.clients ON CLUSTER 'main' AS
SELECT
    campaign,
    user_agent,
    count() AS opens,
    uniqExact(recipient) AS recipients
FROM heliograph.events
WHERE kind = 'open' AND method = 'GET'
GROUP BY campaign, user_agent;

-- 0004_pace.sql

-- What names no codec of its own, as no projection can, is in ZSTD in parts written from here on.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
MODIFY SETTING default_compression_codec = 'ZSTD(1)';

-- In place of `counts`, and by method too: an open is a GET. Whatever counts by campaign, kind and
-- hour reads this and no rows. It lives in the part: rows and counts come in one rename.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT campaign, kind, method, toStartOfHour(ts), count()
    GROUP BY campaign, kind, method, toStartOfHour(ts)
);

ALTER TABLE heliograph.events_local ON CLUSTER 'main' DROP PROJECTION IF EXISTS counts;

-- For rows that are there already, in the background.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MATERIALIZE PROJECTION hourly;

-- What each recipient of a campaign did. `sends` is 0 where no send is recorded. The same words as
-- before in one pass over the rows: a send stands if it was recorded after it was last taken back.
CREATE OR REPLACE VIEW heliograph.readers ON CLUSTER 'main' AS
SELECT
    campaign,
    recipient,
    sum(s.is_send) AS sends,
    sum(s.hits) AS hits,
    sum(s.opens) AS opens,
    sum(s.clicks) AS clicks,
    minIf(s.first, s.opens > 0) AS first_open,
    maxIf(s.last, s.opens > 0) AS last_open
FROM
(
    SELECT
        campaign,
        send,
        recipient,
        maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
        countIf(kind IN ('open', 'click')) AS seen,
        countIf(kind = 'open') AS hits,
        countIf(kind = 'open' AND method = 'GET') AS opens,
        countIf(kind = 'click' AND method = 'GET') AS clicks,
        minIf(ts, kind = 'open' AND method = 'GET') AS first,
        maxIf(ts, kind = 'open' AND method = 'GET') AS last
    FROM heliograph.events
    GROUP BY campaign, send, recipient
) AS s
GROUP BY campaign, recipient
HAVING sum(s.is_send) > 0 OR sum(s.seen) > 0;

-- Opens and clicks of each campaign by UTC hour, without who they were: of the projection alone.
CREATE OR REPLACE VIEW heliograph.activity ON CLUSTER 'main' AS
SELECT
    campaign,
    hour,
    sumIf(events, kind = 'open' AND method = 'GET') AS opens,
    sumIf(events, kind = 'click' AND method = 'GET') AS clicks
FROM
(
    SELECT campaign, kind, method, toStartOfHour(ts) AS hour, count() AS events
    FROM heliograph.events
    GROUP BY campaign, kind, method, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

-- 0005_tallies.sql

-- Reports read this column more than all others: 3.5 bytes an event more, and a third of the time.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MODIFY COLUMN recipient String CODEC(LZ4);

-- A number for each event that sums of are as good as never the same for other events. What a tally
-- depends on and can change in place has to go into it. (On a cluster both tables have it.)
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS mark UInt64 ALIAS intHash64(bitXor(cityHash64(journal), seq));

ALTER TABLE heliograph.events ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS mark UInt64 ALIAS intHash64(bitXor(cityHash64(journal), seq));

-- What ranks campaigns, and what tallies are checked against.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD PROJECTION IF NOT EXISTS totals
(
    SELECT campaign, kind, method, count(), sum(mark) GROUP BY campaign, kind, method
);

-- For rows that are there already, in the background.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MATERIALIZE PROJECTION totals;

-- What there was of a large campaign before a time, counted by a consumer in its spare time. A row
-- says of which events it was made, and is used only while these are what the store has from before
-- that time: late, erased or expired events put it out of use. So nothing has to keep it right.
CREATE TABLE IF NOT EXISTS heliograph.tallies_local ON CLUSTER 'main'
(
    campaign LowCardinality(String),
    until DateTime('UTC'),
    events UInt64,
    marks UInt64, -- their sum, which wraps
    sends UInt64,
    recipients UInt64,
    hits UInt64,
    unique_opens UInt64,
    readers UInt64, -- recipients with a send who opened or clicked
    clicks UInt64,
    unique_clicks UInt64,
    unrecorded UInt64,
    unrecorded_hits UInt64
)
ENGINE = ReplicatedReplacingMergeTree(until)
ORDER BY campaign;

-- What each recipient of a campaign had done before a time. `sends` is 0 where no send is recorded:
-- a send stands if it was recorded after it was last taken back.
CREATE OR REPLACE VIEW heliograph.readers_until ON CLUSTER 'main' AS
SELECT
    campaign,
    recipient,
    sum(s.events) AS events,
    sum(s.marks) AS marks,
    sum(s.is_send) AS sends,
    sum(s.seen) AS seen,
    sum(s.hits) AS hits,
    sum(s.opens) AS opens,
    sum(s.clicks) AS clicks,
    minIf(s.first, s.opens > 0) AS first_open,
    maxIf(s.last, s.opens > 0) AS last_open
FROM
(
    SELECT
        campaign,
        send,
        recipient,
        count() AS events,
        sum(mark) AS marks,
        maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
        countIf(kind IN ('open', 'click')) AS seen,
        countIf(kind = 'open') AS hits,
        countIf(kind = 'open' AND method = 'GET') AS opens,
        countIf(kind = 'click' AND method = 'GET') AS clicks,
        minIf(ts, kind = 'open' AND method = 'GET') AS first,
        maxIf(ts, kind = 'open' AND method = 'GET') AS last
    FROM heliograph.events
    WHERE ts < {until:DateTime('UTC')}
    GROUP BY campaign, send, recipient
) AS s
GROUP BY campaign, recipient;

CREATE OR REPLACE VIEW heliograph.readers ON CLUSTER 'main' AS
SELECT campaign, recipient, sends, hits, opens, clicks, first_open, last_open
FROM heliograph.readers_until(until = '2106-01-01 00:00:00')
WHERE sends > 0 OR seen > 0;

-- The tally of each campaign as of a time, counted from the rows.
CREATE OR REPLACE VIEW heliograph.tallies_until ON CLUSTER 'main' AS
SELECT
    campaign,
    sum(r.events) AS events,
    sum(r.marks) AS marks,
    sum(r.sends) AS sends,
    countIf(r.sends > 0) AS recipients,
    sum(r.hits) AS hits,
    countIf(r.sends > 0 AND r.opens > 0) AS unique_opens,
    countIf(r.sends > 0 AND (r.opens > 0 OR r.clicks > 0)) AS readers,
    sum(r.clicks) AS clicks,
    countIf(r.sends > 0 AND r.clicks > 0) AS unique_clicks,
    countIf(r.sends = 0 AND r.seen > 0) AS unrecorded,
    sumIf(r.hits, r.sends = 0) AS unrecorded_hits
FROM heliograph.readers_until(until = {until:DateTime('UTC')}) AS r
GROUP BY campaign;

-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send.
-- hits, clicks: all of them. unique_opens, unique_clicks: recipients, of those with a send.
-- open_rate (apparent): recipients who opened or clicked / recipients. click_rate: who clicked.
-- unrecorded: recipients without a recorded send, who are in no rate, and their hits. A campaign
-- whose every send was taken back is none.
CREATE OR REPLACE VIEW heliograph.campaigns ON CLUSTER 'main' AS
SELECT
    campaign,
    sends,
    recipients,
    hits,
    unique_opens,
    if(recipients = 0, NULL, readers / recipients) AS open_rate,
    clicks,
    unique_clicks,
    if(recipients = 0, NULL, unique_clicks / recipients) AS click_rate,
    unrecorded,
    unrecorded_hits
FROM heliograph.tallies_until(until = '2106-01-01 00:00:00')
WHERE recipients > 0 OR unrecorded > 0;

-- 0006_seen.sql

-- The look for what is there already: of each journal and 65,536 seqs those that a part has, as one
-- bitmap. It lives in the part as the rows do, and takes a thousandth of a byte an event.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD PROJECTION IF NOT EXISTS seen
(
    SELECT journal, intDiv(seq, 65536), groupBitmapState(seq)
    GROUP BY journal, intDiv(seq, 65536)
);

-- For rows that are there already, in the background. Until it is done the look takes longer.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MATERIALIZE PROJECTION seen;

-- They took a tenth of an insert, and only the look read them.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' DROP INDEX IF EXISTS by_journal;

ALTER TABLE heliograph.events_local ON CLUSTER 'main' DROP INDEX IF EXISTS by_seq;

-- A column at a time is for rows that are long: with these it takes twice the time of a merge.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MODIFY SETTING enable_vertical_merge_algorithm = 0;

-- 0007_tallies.cluster.sql

-- The tallies of a cluster, spread by campaign.
CREATE TABLE IF NOT EXISTS heliograph.tallies ON CLUSTER 'main' AS heliograph.tallies_local
ENGINE = Distributed('main', heliograph, tallies_local, cityHash64(campaign));

-- 0008_verdicts.sql

-- What a hit was judged to be, by which rule, and under which rules; '' where nothing was judged.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS class Enum8(
    '' = 0, 'human' = 1, 'proxy' = 2, 'prefetch' = 3, 'scanner' = 4, 'self' = 5, 'unknown' = 6
),
ADD COLUMN IF NOT EXISTS rule LowCardinality(String),
ADD COLUMN IF NOT EXISTS ruleset LowCardinality(String);

ALTER TABLE heliograph.events ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS class Enum8(
    '' = 0, 'human' = 1, 'proxy' = 2, 'prefetch' = 3, 'scanner' = 4, 'self' = 5, 'unknown' = 6
),
ADD COLUMN IF NOT EXISTS rule LowCardinality(String),
ADD COLUMN IF NOT EXISTS ruleset LowCardinality(String);

-- The lists of networks that were loaded by `heliograph networks load`, beside those of the rules.
-- Of a list what came last counts; '' alone says that it was dropped.
CREATE TABLE IF NOT EXISTS heliograph.networks_local ON CLUSTER 'main'
(
    list LowCardinality(String),
    network String,
    at DateTime64(3, 'UTC')
)
ENGINE = ReplicatedMergeTree
ORDER BY (list, at, network);

-- What a run of the rules about several hits has found, until the verdicts are revised.
CREATE TABLE IF NOT EXISTS heliograph.revisions_local ON CLUSTER 'main'
(
    run String,
    journal LowCardinality(String),
    seq UInt64,
    place UInt16, -- of the rule in its order
    at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplicatedMergeTree
PARTITION BY run
ORDER BY (place, journal, seq)
TTL at + INTERVAL 1 DAY;

-- The rules of each version as its dictionaries read them: by their place, by patterns of agents,
-- and the lists that hold a network.
CREATE TABLE IF NOT EXISTS heliograph.rules_places_local ON CLUSTER 'main'
(
    version LowCardinality(String),
    place UInt64,
    class String,
    rule String,
    home String, -- a list of networks; what comes from elsewhere is somebody else's
    at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (version, place);

CREATE TABLE IF NOT EXISTS heliograph.rules_agents_local ON CLUSTER 'main'
(
    version LowCardinality(String),
    id UInt64,
    parent_id UInt64,
    regexp String,
    keys Array(String),
    `values` Array(String),
    at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (version, id);

CREATE TABLE IF NOT EXISTS heliograph.rules_networks_local ON CLUSTER 'main'
(
    version LowCardinality(String),
    network String,
    lists String,
    at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (version, network);

-- 0009_names.sql

-- How a user agent is called: the family of a mail client or browser, and the system. Filled from
-- schemas/rules/names by whatever migrates. (A dictionary of patterns may not be empty.)
CREATE TABLE IF NOT EXISTS heliograph.names_local ON CLUSTER 'main'
(
    kind LowCardinality(String), -- client or system
    id UInt64,
    parent_id UInt64,
    regexp String,
    keys Array(String),
    `values` Array(String),
    version String
)
ENGINE = ReplicatedMergeTree
ORDER BY (kind, id);

CREATE DICTIONARY IF NOT EXISTS heliograph.client_names ON CLUSTER 'main'
(
    regexp String,
    name String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM heliograph.names_local WHERE kind = \'client\'
    UNION ALL SELECT 65535, 0, \'^$\', [\'name\'], [\'\']'))
LAYOUT(REGEXP_TREE)
LIFETIME(0);

CREATE DICTIONARY IF NOT EXISTS heliograph.system_names ON CLUSTER 'main'
(
    regexp String,
    name String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM heliograph.names_local WHERE kind = \'system\'
    UNION ALL SELECT 65535, 0, \'^$\', [\'name\'], [\'\']'))
LAYOUT(REGEXP_TREE)
LIFETIME(0);

-- Hits with their verdicts, and what fetched them: the mail client's or browser's family, and the
-- system; '' where the agent does not tell.
CREATE OR REPLACE VIEW heliograph.hits ON CLUSTER 'main' AS
SELECT
    campaign, send, recipient, ts, kind, method, class, rule, ruleset,
    dictGet('heliograph.client_names', 'name', user_agent) AS client,
    dictGet('heliograph.system_names', 'name', user_agent) AS system,
    user_agent, address, sent_at, link, journal, seq
FROM heliograph.events
WHERE kind IN ('open', 'click');
