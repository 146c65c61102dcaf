-- `opens` are at least 30 s apart everywhere: what is counted by hour are hits, and is called so.
CREATE OR REPLACE VIEW {database}.activity{on_cluster} AS
SELECT campaign, hour, {shown}
FROM
(
    SELECT campaign, kind, class, toStartOfHour(ts) AS hour, count() AS n
    FROM {database}.events
    GROUP BY campaign, kind, class, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW {database}.opens_by_hour{on_cluster} AS
SELECT
    campaign, toStartOfHour(ts) AS hour,
    {shown},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM {database}.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW {database}.opens_by_day{on_cluster} AS
SELECT
    campaign, toDate(ts) AS day,
    {shown},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM (SELECT campaign, ts, recipient, kind, class, did, toUInt64(1) AS n FROM {database}.events)
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

-- Recording a send again without a segment leaves it in the one that it has.
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
                campaign, send, recipient, argMaxIf(e.segment, ts, kind = 'sent' AND e.segment != '') AS segment,
                {mail}
            FROM {database}.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

-- As before, and white space around a message id is none of it.
CREATE OR REPLACE VIEW {database}.receipts{on_cluster} AS
SELECT
    s.campaign AS campaign, s.send AS send, s.recipient AS recipient, r.id AS message_id,
    r.detail AS disposition, r.first AS at
FROM
(
    SELECT trim(BOTH '<> \t\r\n' FROM message_id) AS id, detail, min(ts) AS first
    FROM {database}.events
    WHERE kind = 'receipt'
    GROUP BY id, detail
) AS r
LEFT JOIN
(
    SELECT
        trim(BOTH '<> \t\r\n' FROM message_id) AS id,
        any(e.campaign) AS campaign, any(e.send) AS send, any(e.recipient) AS recipient
    FROM {database}.events AS e
    WHERE kind = 'sent' AND message_id != '' AND id GLOBAL IN (
        SELECT trim(BOTH '<> \t\r\n' FROM message_id) FROM {database}.events WHERE kind = 'receipt')
    GROUP BY id
    HAVING uniqExact(e.campaign, e.send, e.recipient) = 1
) AS s ON s.id = r.id;
