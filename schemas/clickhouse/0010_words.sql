-- segment: a part of the recipients that the sender named at the send. detail: of a send 'no pixel' if
-- it was minted without one; of a receipt its disposition. (On a cluster both tables have them.)
ALTER TABLE {database}.events{local}{on_cluster}
ADD COLUMN IF NOT EXISTS segment LowCardinality(String),
ADD COLUMN IF NOT EXISTS detail LowCardinality(String);
ALTER TABLE {database}.events{on_cluster}
ADD COLUMN IF NOT EXISTS segment LowCardinality(String),
ADD COLUMN IF NOT EXISTS detail LowCardinality(String);

-- The projections by method give way to ones by class, and the mark takes the class in: a tally holds
-- only while the verdicts are what it was made of. Another ruleset that says the same changes nothing.
ALTER TABLE {database}.events{local}{on_cluster} DROP PROJECTION IF EXISTS totals;
ALTER TABLE {database}.events{local}{on_cluster} DROP PROJECTION IF EXISTS hourly;

ALTER TABLE {database}.events{local}{on_cluster}
MODIFY COLUMN mark UInt64
    ALIAS intHash64(bitXor(bitXor(cityHash64(journal), cityHash64(class)), seq)),
ADD COLUMN IF NOT EXISTS did UInt8 ALIAS {did};
ALTER TABLE {database}.events{on_cluster}
MODIFY COLUMN mark UInt64
    ALIAS intHash64(bitXor(bitXor(cityHash64(journal), cityHash64(class)), seq)),
ADD COLUMN IF NOT EXISTS did UInt8 ALIAS {did};

-- What ranks campaigns, and what tallies are checked against.
ALTER TABLE {database}.events{local}{on_cluster}
ADD PROJECTION IF NOT EXISTS marks
(
    SELECT campaign, kind, class, count(), sum(mark) GROUP BY campaign, kind, class
);

-- What counts by campaign, kind, class and hour reads this and no rows.
ALTER TABLE {database}.events{local}{on_cluster}
ADD PROJECTION IF NOT EXISTS hours
(
    SELECT campaign, kind, class, toStartOfHour(ts), count()
    GROUP BY campaign, kind, class, toStartOfHour(ts)
);

-- For rows that are there already, in the background.
ALTER TABLE {database}.events{local}{on_cluster} MATERIALIZE PROJECTION marks;
ALTER TABLE {database}.events{local}{on_cluster} MATERIALIZE PROJECTION hours;

-- What a tally says are the figures of words.sql. What the words of before said is counted again.
DROP TABLE IF EXISTS {database}.tallies{local}{on_cluster} SYNC;

CREATE TABLE IF NOT EXISTS {database}.tallies{local}{on_cluster}
(
    campaign LowCardinality(String),
    until DateTime('UTC'),
    events UInt64,
    marks UInt64,
    figures Array(UInt64)
)
ENGINE = {replicated}ReplacingMergeTree(until)
ORDER BY campaign;

-- What each recipient of a campaign had come to before a time.
CREATE OR REPLACE VIEW {database}.readers_until{on_cluster} AS
SELECT
    campaign,
    recipient,
    {reader},
    minIf(m.first, m.opens > 0) AS first_open,
    maxIf(m.last, m.opens > 0) AS last_open
FROM
(
    SELECT
        campaign, send, recipient,
        {mail},
        minIf(ts, bitTest(did, 0)) AS first,
        maxIf(ts, bitTest(did, 0)) AS last
    FROM {database}.events
    WHERE ts < {until:DateTime('UTC')}
    GROUP BY campaign, send, recipient
) AS m
GROUP BY campaign, recipient;

CREATE OR REPLACE VIEW {database}.readers{on_cluster} AS
SELECT
    campaign, recipient, sends, hits, opens, clicks, first_open, last_open,
    set > 0 AS delivered, bitTest(bits, 2) AS prefetched, bitTest(bits, 3) AS loaded
FROM {database}.readers_until(until = '2106-01-01 00:00:00')
WHERE sends > 0 OR bitTest(bits, 6);

-- The figures of each campaign as of a time, counted from the rows. (One text, for a view of views
-- takes twice the time to plan.)
CREATE OR REPLACE VIEW {database}.tallies_until{on_cluster} AS
SELECT
    campaign, sum(r.events) AS events, sum(r.marks) AS marks, sumForEach({figures}) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, {reader}
    FROM
    (
        SELECT campaign, send, recipient, count() AS events, sum(mark) AS marks, {mail}
        FROM {database}.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;

-- A campaign whose every send was taken back is none.
CREATE OR REPLACE VIEW {database}.campaigns{on_cluster} AS
WITH {formulas}
SELECT campaign, {rates}
FROM
(
    SELECT campaign, sumForEach({figures}) AS figures
    FROM
    (
        SELECT campaign, recipient, {reader}
        FROM
        (
            SELECT campaign, send, recipient, {mail}
            FROM {database}.events
            GROUP BY campaign, send, recipient
        ) AS m
        GROUP BY campaign, recipient
    ) AS r
    GROUP BY campaign
)
WHERE figures[1] + figures[4] + figures[13] > 0;

-- As `campaigns`, of each part of a campaign's recipients that its sends name.
CREATE OR REPLACE VIEW {database}.segments{on_cluster} AS
WITH {formulas}
SELECT campaign, segment, {rates}
FROM
(
    SELECT campaign, segment, sumForEach({figures}) AS figures
    FROM
    (
        SELECT campaign, segment, recipient, {reader}
        FROM
        (
            SELECT
                campaign, send, recipient, argMaxIf(e.segment, ts, kind = 'sent') AS segment,
                {mail}
            FROM {database}.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

-- Hits and clicks of each campaign by UTC hour, without who they were: of the projection alone.
CREATE OR REPLACE VIEW {database}.activity{on_cluster} AS
SELECT campaign, hour, {lines}
FROM
(
    SELECT campaign, kind, class, toStartOfHour(ts) AS hour, count() AS n
    FROM {database}.events
    GROUP BY campaign, kind, class, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

-- With the people who opened in that hour or day.
CREATE OR REPLACE VIEW {database}.opens_by_hour{on_cluster} AS
SELECT
    campaign, toStartOfHour(ts) AS hour,
    {lines},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM {database}.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW {database}.opens_by_day{on_cluster} AS
SELECT
    campaign, toDate(ts) AS day,
    {lines},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM {database}.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

-- Recipients without a recorded send: shown apart, in no rate.
CREATE OR REPLACE VIEW {database}.unrecorded{on_cluster} AS
SELECT
    campaign,
    count() AS recipients,
    sum(r.hits) AS hits,
    sum(r.opens) AS opens,
    sum(r.clicks) AS clicks
FROM {database}.readers AS r
WHERE r.sends = 0 AND r.recipient != ''
GROUP BY campaign;

-- How long after the send people first opened: whole hours, and how many recipients did by then.
CREATE OR REPLACE VIEW {database}.hours_since_send{on_cluster} AS
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
        FROM {database}.events
        WHERE bitTest(did, 0) AND toUnixTimestamp(sent_at) > 0
            AND (campaign, recipient) IN (SELECT campaign, recipient FROM {database}.sends)
        GROUP BY campaign, recipient
    )
    GROUP BY campaign, hour
);

-- Who has a recorded send and no open of class human or proxy: images may be blocked, or a program
-- prefetched them, so it is not "unread".
CREATE OR REPLACE VIEW {database}.never_opened{on_cluster} AS
SELECT campaign, recipient, sends, clicks, loaded
FROM {database}.readers
WHERE sends > 0 AND opens = 0;

-- Clicks of people by link. recipients: distinct people who clicked it.
CREATE OR REPLACE VIEW {database}.top_links{on_cluster} AS
SELECT campaign, link, count() AS clicks, uniqExact(recipient) AS recipients
FROM {database}.events
WHERE bitTest(did, 1)
GROUP BY campaign, link;

-- Read receipts (RFC 8098), each once however often it came, and the one send that has the message id that they name; an id that several
-- have, or none, is nobody's. disposition: displayed, or what else became of the mail.
CREATE OR REPLACE VIEW {database}.receipts{on_cluster} AS
SELECT
    s.campaign AS campaign, s.send AS send, s.recipient AS recipient, r.id AS message_id,
    r.detail AS disposition, r.first AS at
FROM
(
    SELECT trim(BOTH '<>' FROM message_id) AS id, detail, min(ts) AS first
    FROM {database}.events
    WHERE kind = 'receipt'
    GROUP BY id, detail
) AS r
LEFT JOIN
(
    SELECT
        trim(BOTH '<>' FROM message_id) AS id,
        any(e.campaign) AS campaign, any(e.send) AS send, any(e.recipient) AS recipient
    FROM {database}.events AS e
    WHERE kind = 'sent' AND message_id != '' AND id GLOBAL IN (
        SELECT trim(BOTH '<>' FROM message_id) FROM {database}.events WHERE kind = 'receipt')
    GROUP BY id
    HAVING uniqExact(e.campaign, e.send, e.recipient) = 1
) AS s ON s.id = r.id;

-- Hits by what fetched them: the mail client's or browser's family, the system, and the verdict's class.
CREATE OR REPLACE VIEW {database}.clients{on_cluster} AS
SELECT
    campaign, client, system, class,
    count() AS hits,
    uniqExact(recipient) AS recipients
FROM {database}.hits
WHERE kind = 'open'
GROUP BY campaign, client, system, class;
