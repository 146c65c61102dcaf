-- Who has opted out, as before, with less work.
CREATE OR REPLACE VIEW {database}.optouts{on_cluster} AS
SELECT recipient, max(ts) AS since
FROM {database}.events
WHERE {asked_not} AND recipient != ''
GROUP BY recipient
HAVING {stays_out};

-- A tally is of the opt-outs from before its time, as it is of the events: so of those who opt out, or
-- in again, later it can be told what changes.
CREATE OR REPLACE VIEW {database}.tallies_until{on_cluster} AS
SELECT
    campaign,
    sum(r.events) + (
        SELECT count() FROM {database}.events WHERE {asked_not} AND ts < {until:DateTime('UTC')})
        AS events,
    sum(r.marks) + (
        SELECT sum(mark) FROM {database}.events WHERE {asked_not} AND ts < {until:DateTime('UTC')})
        AS marks,
    sumForEach({figures}) AS figures
FROM
(
    SELECT campaign, recipient, sum(m.events) AS events, sum(m.marks) AS marks, {reader}
    FROM
    (
        SELECT
            campaign, send, recipient, count() AS events, sum(mark) AS marks,
            recipient GLOBAL IN (
                SELECT recipient FROM {database}.events
                WHERE {asked_not} AND ts < {until:DateTime('UTC')}
                GROUP BY recipient
                HAVING {stays_out}) AS opted_out,
            {heard}
        FROM {database}.events
        WHERE ts < {until:DateTime('UTC')}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign;
