-- As campaigns.sql, of those campaigns whose tally holds: the tally, and what has changed since.
-- All is added up. What a recipient who stirred since the tally adds to it is what all its rows say
-- less what those from before say (sign is -1, as UInt64, in which sums wrap); one who did not stir
-- adds nothing. The number and the marks of all rows have to be what the sums say, or
-- what the tally was made of is not what there is.
WITH stirred AS
(
    SELECT e.campaign AS campaign, recipient
    FROM events AS e
    GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
    WHERE e.campaign IN {campaigns:Array(String)} AND ts >= until
        AND ts >= (SELECT min(until) FROM tallies FINAL WHERE campaign IN {campaigns:Array(String)})
)
SELECT
    campaign,
    sum(c.sends) AS sends,
    sum(c.recipients) AS recipients,
    sum(c.hits) AS hits,
    sum(c.unique_opens) AS unique_opens,
    if(recipients = 0, NULL, sum(c.readers) / recipients) AS open_rate,
    sum(c.clicks) AS clicks,
    sum(c.unique_clicks) AS unique_clicks,
    if(recipients = 0, NULL, unique_clicks / recipients) AS click_rate,
    sum(c.unrecorded) AS unrecorded,
    sum(c.unrecorded_hits) AS unrecorded_hits
FROM
(
    SELECT * EXCEPT until
    FROM tallies FINAL
    WHERE campaign IN {campaigns:Array(String)}
    UNION ALL
    SELECT campaign, toUInt64(-count()), toUInt64(-sum(mark)), 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM events
    WHERE campaign IN {campaigns:Array(String)}
    GROUP BY campaign
    UNION ALL
    SELECT e.campaign, count(), sum(mark), 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM events AS e
    GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
    WHERE e.campaign IN {campaigns:Array(String)} AND ts >= until
        AND ts >= (SELECT min(until) FROM tallies FINAL WHERE campaign IN {campaigns:Array(String)})
    GROUP BY e.campaign
    UNION ALL
    SELECT
        campaign,
        0,
        0,
        sign * r.sends,
        sign * (r.sends > 0),
        sign * r.hits,
        sign * (r.sends > 0 AND r.opens > 0),
        sign * (r.sends > 0 AND (r.opens > 0 OR r.clicks > 0)),
        sign * r.clicks,
        sign * (r.sends > 0 AND r.clicks > 0),
        sign * (r.sends = 0 AND r.seen > 0),
        sign * if(r.sends = 0, r.hits, 0)
    FROM
    (
        SELECT
            campaign, recipient, sign, sum(is_send) AS sends, sum(s.seen) AS seen,
            sum(s.hits) AS hits, sum(s.opens) AS opens, sum(s.clicks) AS clicks
        FROM
        (
            SELECT
                e.campaign AS campaign, recipient, toUInt64(1 - 2 * number) AS sign,
                maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
                countIf(kind IN ('open', 'click')) AS seen,
                countIf(kind = 'open') AS hits,
                countIf(kind = 'open' AND method = 'GET') AS opens,
                countIf(kind = 'click' AND method = 'GET') AS clicks
            FROM events AS e
            GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
            CROSS JOIN numbers(2) AS twice
            WHERE e.campaign GLOBAL IN (SELECT campaign FROM stirred)
                AND recipient GLOBAL IN (SELECT recipient FROM stirred)
                AND (number = 0 OR ts < until)
            GROUP BY campaign, send, recipient, number
        ) AS s
        GROUP BY campaign, recipient, sign
    ) AS r
) AS c
GROUP BY campaign
HAVING sum(c.events) = 0 AND sum(c.marks) = 0 AND (recipients > 0 OR unrecorded > 0)
