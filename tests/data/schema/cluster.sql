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

-- 0010_words.sql

-- segment: a part of the recipients that the sender named at the send. detail: of a send 'no pixel' if
-- it was minted without one; of a receipt its disposition. (On a cluster both tables have them.)
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS segment LowCardinality(String),
ADD COLUMN IF NOT EXISTS detail LowCardinality(String);

ALTER TABLE heliograph.events ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS segment LowCardinality(String),
ADD COLUMN IF NOT EXISTS detail LowCardinality(String);

-- The projections by method give way to ones by class, and the mark takes the class in: a tally holds
-- only while the verdicts are what it was made of. Another ruleset that says the same changes nothing.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' DROP PROJECTION IF EXISTS totals;

ALTER TABLE heliograph.events_local ON CLUSTER 'main' DROP PROJECTION IF EXISTS hourly;

ALTER TABLE heliograph.events_local ON CLUSTER 'main'
MODIFY COLUMN mark UInt64
    ALIAS intHash64(bitXor(bitXor(cityHash64(journal), cityHash64(class)), seq)),
ADD COLUMN IF NOT EXISTS did UInt8 ALIAS multiIf(
    kind = 'open',
    multiIf(
        class IN ('human', 'proxy'), 201, class = 'prefetch', 76, class = 'scanner', 64,
        class = 'self', 0, 72),
    kind = 'click', multiIf(class = 'human', 202, class = 'self', 0, 64),
    kind = 'sent', if(detail = 'no pixel', 0, 32),
    kind = 'bounced', 16,
    0);

ALTER TABLE heliograph.events ON CLUSTER 'main'
MODIFY COLUMN mark UInt64
    ALIAS intHash64(bitXor(bitXor(cityHash64(journal), cityHash64(class)), seq)),
ADD COLUMN IF NOT EXISTS did UInt8 ALIAS multiIf(
    kind = 'open',
    multiIf(
        class IN ('human', 'proxy'), 201, class = 'prefetch', 76, class = 'scanner', 64,
        class = 'self', 0, 72),
    kind = 'click', multiIf(class = 'human', 202, class = 'self', 0, 64),
    kind = 'sent', if(detail = 'no pixel', 0, 32),
    kind = 'bounced', 16,
    0);

-- What ranks campaigns, and what tallies are checked against.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD PROJECTION IF NOT EXISTS marks
(
    SELECT campaign, kind, class, count(), sum(mark) GROUP BY campaign, kind, class
);

-- What counts by campaign, kind, class and hour reads this and no rows.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD PROJECTION IF NOT EXISTS hours
(
    SELECT campaign, kind, class, toStartOfHour(ts), count()
    GROUP BY campaign, kind, class, toStartOfHour(ts)
);

-- For rows that are there already, in the background.
ALTER TABLE heliograph.events_local ON CLUSTER 'main' MATERIALIZE PROJECTION marks;

ALTER TABLE heliograph.events_local ON CLUSTER 'main' MATERIALIZE PROJECTION hours;

-- What a tally says are the figures of words.sql. What the words of before said is counted again.
DROP TABLE IF EXISTS heliograph.tallies_local ON CLUSTER 'main' SYNC;

CREATE TABLE IF NOT EXISTS heliograph.tallies_local ON CLUSTER 'main'
(
    campaign LowCardinality(String),
    until DateTime('UTC'),
    events UInt64,
    marks UInt64,
    figures Array(UInt64)
)
ENGINE = ReplicatedReplacingMergeTree(until)
ORDER BY campaign;

-- What each recipient of a campaign had come to before a time.
CREATE OR REPLACE VIEW heliograph.readers_until ON CLUSTER 'main' AS
SELECT
    campaign,
    recipient,
    sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks,
    minIf(m.first, m.opens > 0) AS first_open,
    maxIf(m.last, m.opens > 0) AS last_open
FROM
(
    SELECT
        campaign, send, recipient,
        maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks,
        minIf(ts, bitTest(did, 0)) AS first,
        maxIf(ts, bitTest(did, 0)) AS last
    FROM heliograph.events
    WHERE ts < {until:DateTime('UTC')}
    GROUP BY campaign, send, recipient
) AS m
GROUP BY campaign, recipient;

CREATE OR REPLACE VIEW heliograph.readers ON CLUSTER 'main' AS
SELECT
    campaign, recipient, sends, hits, opens, clicks, first_open, last_open,
    set > 0 AS delivered, bitTest(bits, 2) AS prefetched, bitTest(bits, 3) AS loaded
FROM heliograph.readers_until(until = '2106-01-01 00:00:00')
WHERE sends > 0 OR bitTest(bits, 6);

-- The figures of each campaign as of a time, counted from the rows. (One text, for a view of views
-- takes twice the time to plan.)
CREATE OR REPLACE VIEW heliograph.tallies_until ON CLUSTER 'main' AS
SELECT
    campaign, sum(r.events) AS events, sum(r.marks) AS marks, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
    FROM
    (
        SELECT campaign, send, recipient, count() AS events, sum(mark) AS marks, maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
        FROM heliograph.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;

-- A campaign whose every send was taken back is none.
CREATE OR REPLACE VIEW heliograph.campaigns ON CLUSTER 'main' AS
WITH (x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe
SELECT campaign, figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits
FROM
(
    SELECT campaign, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
    FROM
    (
        SELECT campaign, recipient, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
        FROM
        (
            SELECT campaign, send, recipient, maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
            FROM heliograph.events
            GROUP BY campaign, send, recipient
        ) AS m
        GROUP BY campaign, recipient
    ) AS r
    GROUP BY campaign
)
WHERE figures[1] + figures[4] + figures[13] > 0;

-- As `campaigns`, of each part of a campaign's recipients that its sends name.
CREATE OR REPLACE VIEW heliograph.segments ON CLUSTER 'main' AS
WITH (x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe
SELECT campaign, segment, figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits
FROM
(
    SELECT campaign, segment, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
    FROM
    (
        SELECT campaign, segment, recipient, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
        FROM
        (
            SELECT
                campaign, send, recipient, argMaxIf(e.segment, ts, kind = 'sent') AS segment,
                maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
            FROM heliograph.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

-- Hits and clicks of each campaign by UTC hour, without who they were: of the projection alone.
CREATE OR REPLACE VIEW heliograph.activity ON CLUSTER 'main' AS
SELECT campaign, hour, sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS opens,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks
FROM
(
    SELECT campaign, kind, class, toStartOfHour(ts) AS hour, count() AS n
    FROM heliograph.events
    GROUP BY campaign, kind, class, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

-- With the people who opened in that hour or day.
CREATE OR REPLACE VIEW heliograph.opens_by_hour ON CLUSTER 'main' AS
SELECT
    campaign, toStartOfHour(ts) AS hour,
    sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS opens,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks,
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM heliograph.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW heliograph.opens_by_day ON CLUSTER 'main' AS
SELECT
    campaign, toDate(ts) AS day,
    sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS opens,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks,
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM heliograph.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

-- Recipients without a recorded send: shown apart, in no rate.
CREATE OR REPLACE VIEW heliograph.unrecorded ON CLUSTER 'main' AS
SELECT
    campaign,
    count() AS recipients,
    sum(r.hits) AS hits,
    sum(r.opens) AS opens,
    sum(r.clicks) AS clicks
FROM heliograph.readers AS r
WHERE r.sends = 0 AND r.recipient != ''
GROUP BY campaign;

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
        WHERE bitTest(did, 0) AND toUnixTimestamp(sent_at) > 0
            AND (campaign, recipient) IN (SELECT campaign, recipient FROM heliograph.sends)
        GROUP BY campaign, recipient
    )
    GROUP BY campaign, hour
);

-- Who has a recorded send and no open of class human or proxy: images may be blocked, or a program
-- prefetched them, so it is not "unread".
CREATE OR REPLACE VIEW heliograph.never_opened ON CLUSTER 'main' AS
SELECT campaign, recipient, sends, clicks, loaded
FROM heliograph.readers
WHERE sends > 0 AND opens = 0;

-- Clicks of people by link. recipients: distinct people who clicked it.
CREATE OR REPLACE VIEW heliograph.top_links ON CLUSTER 'main' AS
SELECT campaign, link, count() AS clicks, uniqExact(recipient) AS recipients
FROM heliograph.events
WHERE bitTest(did, 1)
GROUP BY campaign, link;

-- Read receipts (RFC 8098), each once however often it came, and the one send that has the message id that they name; an id that several
-- have, or none, is nobody's. disposition: displayed, or what else became of the mail.
CREATE OR REPLACE VIEW heliograph.receipts ON CLUSTER 'main' AS
SELECT
    s.campaign AS campaign, s.send AS send, s.recipient AS recipient, r.id AS message_id,
    r.detail AS disposition, r.first AS at
FROM
(
    SELECT trim(BOTH '<>' FROM message_id) AS id, detail, min(ts) AS first
    FROM heliograph.events
    WHERE kind = 'receipt'
    GROUP BY id, detail
) AS r
LEFT JOIN
(
    SELECT
        trim(BOTH '<>' FROM message_id) AS id,
        any(e.campaign) AS campaign, any(e.send) AS send, any(e.recipient) AS recipient
    FROM heliograph.events AS e
    WHERE kind = 'sent' AND message_id != '' AND id GLOBAL IN (
        SELECT trim(BOTH '<>' FROM message_id) FROM heliograph.events WHERE kind = 'receipt')
    GROUP BY id
    HAVING uniqExact(e.campaign, e.send, e.recipient) = 1
) AS s ON s.id = r.id;

-- Hits by what fetched them: the mail client's or browser's family, the system, and the verdict's class.
CREATE OR REPLACE VIEW heliograph.clients ON CLUSTER 'main' AS
SELECT
    campaign, client, system, class,
    count() AS hits,
    uniqExact(recipient) AS recipients
FROM heliograph.hits
WHERE kind = 'open'
GROUP BY campaign, client, system, class;

-- 0011_tallies.cluster.sql

-- The tallies of a cluster, with their figures.
DROP TABLE IF EXISTS heliograph.tallies ON CLUSTER 'main' SYNC;

CREATE TABLE IF NOT EXISTS heliograph.tallies ON CLUSTER 'main' AS heliograph.tallies_local
ENGINE = Distributed('main', heliograph, tallies_local, cityHash64(campaign));

-- 0012_shown.sql

-- `opens` are at least 30 s apart everywhere: what is counted by hour are hits, and is called so.
CREATE OR REPLACE VIEW heliograph.activity ON CLUSTER 'main' AS
SELECT campaign, hour, sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS open_hits,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks
FROM
(
    SELECT campaign, kind, class, toStartOfHour(ts) AS hour, count() AS n
    FROM heliograph.events
    GROUP BY campaign, kind, class, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW heliograph.opens_by_hour ON CLUSTER 'main' AS
SELECT
    campaign, toStartOfHour(ts) AS hour,
    sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS open_hits,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks,
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM heliograph.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW heliograph.opens_by_day ON CLUSTER 'main' AS
SELECT
    campaign, toDate(ts) AS day,
    sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS open_hits,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks,
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM heliograph.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

-- Recording a send again without a segment leaves it in the one that it has.
CREATE OR REPLACE VIEW heliograph.segments ON CLUSTER 'main' AS
WITH (x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe
SELECT campaign, segment, figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits
FROM
(
    SELECT campaign, segment, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
    FROM
    (
        SELECT campaign, segment, recipient, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
        FROM
        (
            SELECT
                campaign, send, recipient, argMaxIf(e.segment, ts, kind = 'sent' AND e.segment != '') AS segment,
                maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
            FROM heliograph.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

-- As before, and white space around a message id is none of it.
CREATE OR REPLACE VIEW heliograph.receipts ON CLUSTER 'main' AS
SELECT
    s.campaign AS campaign, s.send AS send, s.recipient AS recipient, r.id AS message_id,
    r.detail AS disposition, r.first AS at
FROM
(
    SELECT trim(BOTH '<> \t\r\n' FROM message_id) AS id, detail, min(ts) AS first
    FROM heliograph.events
    WHERE kind = 'receipt'
    GROUP BY id, detail
) AS r
LEFT JOIN
(
    SELECT
        trim(BOTH '<> \t\r\n' FROM message_id) AS id,
        any(e.campaign) AS campaign, any(e.send) AS send, any(e.recipient) AS recipient
    FROM heliograph.events AS e
    WHERE kind = 'sent' AND message_id != '' AND id GLOBAL IN (
        SELECT trim(BOTH '<> \t\r\n' FROM message_id) FROM heliograph.events WHERE kind = 'receipt')
    GROUP BY id
    HAVING uniqExact(e.campaign, e.send, e.recipient) = 1
) AS s ON s.id = r.id;

-- 0014_kept.sql

-- consent: what the recipient allows to be kept, '' is all (schemas/consent.py). line: tells the hits of one address
-- from those of others in its network, by a salt that is forgotten; 0 where that is not known.
-- (On a cluster both tables have them.)
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS consent LowCardinality(String),
ADD COLUMN IF NOT EXISTS line UInt16;

ALTER TABLE heliograph.events ON CLUSTER 'main'
ADD COLUMN IF NOT EXISTS consent LowCardinality(String),
ADD COLUMN IF NOT EXISTS line UInt16;

-- The salts of `line`, one an hour.
CREATE TABLE IF NOT EXISTS heliograph.salts_local ON CLUSTER 'main'
(
    hour DateTime('UTC'),
    salt UInt64
)
ENGINE = ReplicatedMergeTree
ORDER BY hour
TTL hour + INTERVAL 2 HOUR
SETTINGS merge_with_ttl_timeout = 3600;

-- Of an address its network is kept. In the background, of what is there already.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
UPDATE address = multiIf(
    address = '', '',
    position(address, ':') > 0, cutIPv6(IPv6StringToNumOrDefault(address), 10, 1),
    IPv4StringToNumOrDefault(address) = 0, '',
    IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(address), 4294967040))) WHERE address != multiIf(
    address = '', '',
    position(address, ':') > 0, cutIPv6(IPv6StringToNumOrDefault(address), 10, 1),
    IPv4StringToNumOrDefault(address) = 0, '',
    IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(address), 4294967040)));

-- 0015_erasures.sql

-- The key of the hashes below: who has only these cannot tell whose they are.
CREATE TABLE IF NOT EXISTS heliograph.erasure_key_local ON CLUSTER 'main'
(
    key0 UInt64,
    key1 UInt64
)
ENGINE = ReplicatedMergeTree
ORDER BY key0;

INSERT INTO heliograph.erasure_key_local
SELECT rand64(1), rand64(2) WHERE (SELECT count() FROM heliograph.erasure_key_local) = 0;

-- Who was erased, as a keyed hash of the recipient: no event of theirs up to `until` is stored again.
CREATE TABLE IF NOT EXISTS heliograph.erasures_local ON CLUSTER 'main'
(
    hash UInt64,
    until UInt64, -- Unix milliseconds
    at DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree(at)
ORDER BY hash;

-- The names of events that were erased, or came again and were kept out: what an audit finds missing.
CREATE TABLE IF NOT EXISTS heliograph.erased_local ON CLUSTER 'main'
(
    journal LowCardinality(String),
    seq UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (journal, seq)
SETTINGS fsync_after_insert = 1;

-- 0016_erased.cluster.sql

-- The names of a cluster's erased events, spread as the events are.
CREATE TABLE IF NOT EXISTS heliograph.erased ON CLUSTER 'main' AS heliograph.erased_local
ENGINE = Distributed('main', heliograph, erased_local, cityHash64(journal));

CREATE TABLE IF NOT EXISTS heliograph.erasures ON CLUSTER 'main' AS heliograph.erasures_local
ENGINE = Distributed('main', heliograph, erasures_local, hash);

CREATE TABLE IF NOT EXISTS heliograph.erasure_key ON CLUSTER 'main' AS heliograph.erasure_key_local
ENGINE = Distributed('main', heliograph, erasure_key_local, key0);

-- 0020_optouts.sql

-- Who has opted out, by the events without a campaign that say so: of a recipient's the last holds.
CREATE OR REPLACE VIEW heliograph.optouts ON CLUSTER 'main' AS
SELECT recipient, max(ts) AS since
FROM heliograph.events
WHERE campaign = '' AND kind IN ('optout', 'optin') AND recipient != ''
GROUP BY recipient
HAVING argMax(kind, (ts, kind = 'optout', journal, seq)) = 'optout';

-- As before, and who has opted out is in no rate. What a tally was made of are all such events too.
CREATE OR REPLACE VIEW heliograph.readers_until ON CLUSTER 'main' AS
SELECT
    campaign,
    recipient,
    sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks,
    minIf(m.first, m.opens > 0) AS first_open,
    maxIf(m.last, m.opens > 0) AS last_open
FROM
(
    SELECT
        campaign, send, recipient,
        maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR recipient GLOBAL IN (SELECT recipient FROM heliograph.optouts), 0,
    NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks,
        minIf(ts, bitTest(did, 0)) AS first,
        maxIf(ts, bitTest(did, 0)) AS last
    FROM heliograph.events
    WHERE ts < {until:DateTime('UTC')}
    GROUP BY campaign, send, recipient
) AS m
GROUP BY campaign, recipient;

CREATE OR REPLACE VIEW heliograph.tallies_until ON CLUSTER 'main' AS
SELECT
    campaign,
    sum(r.events) + (SELECT count() FROM heliograph.events WHERE campaign = '' AND kind IN ('optout', 'optin')) AS events,
    sum(r.marks) + (SELECT sum(mark) FROM heliograph.events WHERE campaign = '' AND kind IN ('optout', 'optin')) AS marks,
    sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
    FROM
    (
        SELECT campaign, send, recipient, count() AS events, sum(mark) AS marks, maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR recipient GLOBAL IN (SELECT recipient FROM heliograph.optouts), 0,
    NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
        FROM heliograph.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;

CREATE OR REPLACE VIEW heliograph.campaigns ON CLUSTER 'main' AS
WITH (x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe
SELECT campaign, figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits
FROM
(
    SELECT campaign, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
    FROM
    (
        SELECT campaign, recipient, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
        FROM
        (
            SELECT campaign, send, recipient, maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR recipient GLOBAL IN (SELECT recipient FROM heliograph.optouts), 0,
    NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
            FROM heliograph.events
            GROUP BY campaign, send, recipient
        ) AS m
        GROUP BY campaign, recipient
    ) AS r
    GROUP BY campaign
)
WHERE figures[1] + figures[4] + figures[13] > 0;

CREATE OR REPLACE VIEW heliograph.segments ON CLUSTER 'main' AS
WITH (x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe
SELECT campaign, segment, figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits
FROM
(
    SELECT campaign, segment, sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
    FROM
    (
        SELECT campaign, segment, recipient, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
        FROM
        (
            SELECT
                campaign, send, recipient,
                argMaxIf(e.segment, ts, kind = 'sent' AND e.segment != '') AS segment,
                maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR recipient GLOBAL IN (SELECT recipient FROM heliograph.optouts), 0,
    NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
            FROM heliograph.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

CREATE OR REPLACE VIEW heliograph.never_opened ON CLUSTER 'main' AS
SELECT campaign, recipient, sends, clicks, loaded
FROM heliograph.readers
WHERE sends > 0 AND opens = 0 AND recipient NOT IN (SELECT recipient FROM heliograph.optouts);

-- 0022_opted_out.sql

-- Who has opted out, as before, with less work.
CREATE OR REPLACE VIEW heliograph.optouts ON CLUSTER 'main' AS
SELECT recipient, max(ts) AS since
FROM heliograph.events
WHERE campaign = '' AND kind IN ('optout', 'optin') AND recipient != ''
GROUP BY recipient
HAVING maxIf(ts, kind = 'optout') >= maxIf(ts, kind = 'optin');

-- A tally is of the opt-outs from before its time, as it is of the events: so of those who opt out, or
-- in again, later it can be told what changes.
CREATE OR REPLACE VIEW heliograph.tallies_until ON CLUSTER 'main' AS
SELECT
    campaign,
    sum(r.events) + (
        SELECT count() FROM heliograph.events WHERE campaign = '' AND kind IN ('optout', 'optin') AND ts < {until:DateTime('UTC')})
        AS events,
    sum(r.marks) + (
        SELECT sum(mark) FROM heliograph.events WHERE campaign = '' AND kind IN ('optout', 'optin') AND ts < {until:DateTime('UTC')})
        AS marks,
    sumForEach([
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks
    FROM
    (
        SELECT
            campaign, send, recipient, count() AS events, sum(mark) AS marks,
            recipient GLOBAL IN (
                SELECT recipient FROM heliograph.events
                WHERE campaign = '' AND kind IN ('optout', 'optin') AND ts < {until:DateTime('UTC')}
                GROUP BY recipient
                HAVING maxIf(ts, kind = 'optout') >= maxIf(ts, kind = 'optin')) AS opted_out,
            maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR opted_out, 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4),
    said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks
        FROM heliograph.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;

-- 0023_last_opens.sql

-- In hygiene mode, of each recipient of whom anything was seen the date (UTC) of the last open of
-- class human or proxy; 1970-01-01 where there was none. Earlier dates go when parts are merged,
-- which the engine does with all that are an hour old.
CREATE TABLE IF NOT EXISTS heliograph.last_opens_local ON CLUSTER 'main'
(
    recipient String CODEC(ZSTD(1)),
    day SimpleAggregateFunction(max, Date)
)
ENGINE = ReplicatedAggregatingMergeTree
ORDER BY recipient
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_age_to_force_merge_seconds = 3600;

-- 0024_last_opens.cluster.sql

-- The dates of a cluster; of each recipient any shard may have some.
CREATE TABLE IF NOT EXISTS heliograph.last_opens ON CLUSTER 'main' AS heliograph.last_opens_local
ENGINE = Distributed('main', heliograph, last_opens_local, cityHash64(recipient));

-- 0025_cheaper.sql

-- Statistics of each column took a tenth of an insert and of a merge.
-- Parts are merged ten at a time, not five: a row is written again half as often.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
MODIFY SETTING auto_statistics_types = '', merge_selector_base = 10;

-- 0026_last_opens_kept.sql

-- So that an entry of whom no open was seen can end: the last day of the month in which something else
-- was last seen; 1970-01-01 where there was only opens. Entries of before count as seen now.
ALTER TABLE heliograph.last_opens_local ON CLUSTER 'main'
    ADD COLUMN IF NOT EXISTS seen SimpleAggregateFunction(max, Date) DEFAULT today();

ALTER TABLE heliograph.last_opens_local ON CLUSTER 'main' MATERIALIZE COLUMN seen;

-- 0027_last_opens_kept.cluster.sql

-- What 0026 added.
ALTER TABLE heliograph.last_opens ON CLUSTER 'main'
    ADD COLUMN IF NOT EXISTS seen SimpleAggregateFunction(max, Date) DEFAULT today();

-- 0028_cleanup.sql

-- An erasure waits until the engine has removed the parts of before. Where little happens it looks for
-- such only every five minutes; so it does every five seconds.
ALTER TABLE heliograph.events_local ON CLUSTER 'main'
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;

ALTER TABLE heliograph.dead_letter_local ON CLUSTER 'main'
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;

ALTER TABLE heliograph.last_opens_local ON CLUSTER 'main'
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;
