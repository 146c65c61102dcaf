-- Who has opted out, by the events without a campaign that say so: of a recipient's the last holds.
CREATE OR REPLACE VIEW {database}.optouts{on_cluster} AS
SELECT recipient, max(ts) AS since
FROM {database}.events
WHERE campaign = '' AND kind IN ('optout', 'optin') AND recipient != ''
GROUP BY recipient
HAVING argMax(kind, (ts, kind = 'optout', journal, seq)) = 'optout';

-- As before, and who has opted out is in no rate. What a tally was made of are all such events too.
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
        {mails},
        minIf(ts, bitTest(did, 0)) AS first,
        maxIf(ts, bitTest(did, 0)) AS last
    FROM {database}.events
    WHERE ts < {until:DateTime('UTC')}
    GROUP BY campaign, send, recipient
) AS m
GROUP BY campaign, recipient;

CREATE OR REPLACE VIEW {database}.tallies_until{on_cluster} AS
SELECT
    campaign,
    sum(r.events) + (SELECT count() FROM {database}.events WHERE {asked_not}) AS events,
    sum(r.marks) + (SELECT sum(mark) FROM {database}.events WHERE {asked_not}) AS marks,
    sumForEach({figures}) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, {reader}
    FROM
    (
        SELECT campaign, send, recipient, count() AS events, sum(mark) AS marks, {mails}
        FROM {database}.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;

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
            SELECT campaign, send, recipient, {mails}
            FROM {database}.events
            GROUP BY campaign, send, recipient
        ) AS m
        GROUP BY campaign, recipient
    ) AS r
    GROUP BY campaign
)
WHERE figures[1] + figures[4] + figures[13] > 0;

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
                campaign, send, recipient,
                argMaxIf(e.segment, ts, kind = 'sent' AND e.segment != '') AS segment,
                {mails}
            FROM {database}.events AS e
            GROUP BY campaign, send, recipient
        ) AS m
        WHERE m.is_send
        GROUP BY campaign, segment, recipient
    ) AS r
    GROUP BY campaign, segment
);

CREATE OR REPLACE VIEW {database}.never_opened{on_cluster} AS
SELECT campaign, recipient, sends, clicks, loaded
FROM {database}.readers
WHERE sends > 0 AND opens = 0 AND recipient NOT IN (SELECT recipient FROM {database}.optouts);
