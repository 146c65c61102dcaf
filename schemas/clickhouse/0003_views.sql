-- The words, each defined once. An open is a GET of a valid pixel, a click a GET of a valid link;
-- a hit is any valid request of a pixel, HEAD included. Rates divide by recipients.

-- Recorded sends that were not taken back: one row a (campaign, send, recipient).
CREATE OR REPLACE VIEW {database}.sends{on_cluster} AS
SELECT
    campaign,
    send,
    recipient,
    argMaxIf(message_id, (ts, journal, seq), message_id != '') AS message_id,
    argMax(e.sent_at, (ts, journal, seq)) AS sent_at
FROM {database}.events AS e
WHERE kind IN ('sent', 'cancelled')
GROUP BY campaign, send, recipient
HAVING argMax(kind, (ts, kind = 'cancelled', journal, seq)) = 'sent';

-- What each recipient of a campaign did. `sends` is 0 where no send is recorded.
CREATE OR REPLACE VIEW {database}.readers{on_cluster} AS
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
    FROM {database}.sends
    UNION ALL
    SELECT
        campaign, recipient, ts AS at,
        0, kind = 'open', kind = 'open' AND method = 'GET', kind = 'click' AND method = 'GET'
    FROM {database}.events
    WHERE kind IN ('open', 'click')
)
GROUP BY campaign, recipient;

-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send.
-- hits, clicks: all of them. unique_opens, unique_clicks: recipients, of those with a send.
-- open_rate (apparent): recipients who opened or clicked / recipients. click_rate: who clicked.
CREATE OR REPLACE VIEW {database}.campaigns{on_cluster} AS
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
FROM {database}.readers AS r
GROUP BY campaign;

-- Recipients without a recorded send: shown apart, in no rate.
CREATE OR REPLACE VIEW {database}.unrecorded{on_cluster} AS
SELECT
    campaign,
    count() AS recipients,
    sum(r.hits) AS hits,
    sum(r.opens) AS opens,
    sum(r.clicks) AS clicks
FROM {database}.readers AS r
WHERE r.sends = 0
GROUP BY campaign;

-- Opens and clicks over time, in UTC. recipients: who opened in that hour or day.
CREATE OR REPLACE VIEW {database}.opens_by_hour{on_cluster} AS
SELECT
    campaign,
    toStartOfHour(ts) AS hour,
    countIf(kind = 'open' AND method = 'GET') AS opens,
    uniqExactIf(recipient, kind = 'open' AND method = 'GET') AS recipients,
    countIf(kind = 'click' AND method = 'GET') AS clicks
FROM {database}.events
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;

CREATE OR REPLACE VIEW {database}.opens_by_day{on_cluster} AS
SELECT
    campaign,
    toDate(ts) AS day,
    countIf(kind = 'open' AND method = 'GET') AS opens,
    uniqExactIf(recipient, kind = 'open' AND method = 'GET') AS recipients,
    countIf(kind = 'click' AND method = 'GET') AS clicks
FROM {database}.events
WHERE kind IN ('open', 'click')
GROUP BY campaign, day;

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
        WHERE kind = 'open' AND method = 'GET' AND toUnixTimestamp(sent_at) > 0
            AND (campaign, recipient) IN (SELECT campaign, recipient FROM {database}.sends)
        GROUP BY campaign, recipient
    )
    GROUP BY campaign, hour
);

-- Who opened, and who never did (images may be blocked: no open seen is not unread).
CREATE OR REPLACE VIEW {database}.opened{on_cluster} AS
SELECT campaign, recipient, opens, clicks, first_open, last_open
FROM {database}.readers
WHERE sends > 0 AND opens > 0;

CREATE OR REPLACE VIEW {database}.never_opened{on_cluster} AS
SELECT campaign, recipient, sends, clicks
FROM {database}.readers
WHERE sends > 0 AND opens = 0;

-- Clicks by link. recipients: distinct people who clicked it.
CREATE OR REPLACE VIEW {database}.top_links{on_cluster} AS
SELECT campaign, link, count() AS clicks, uniqExact(recipient) AS recipients
FROM {database}.events
WHERE kind = 'click' AND method = 'GET'
GROUP BY campaign, link;

-- Opens by the program that fetched the pixel, as it names itself.
CREATE OR REPLACE VIEW {database}.clients{on_cluster} AS
SELECT
    campaign,
    user_agent,
    count() AS opens,
    uniqExact(recipient) AS recipients
FROM {database}.events
WHERE kind = 'open' AND method = 'GET'
GROUP BY campaign, user_agent;
