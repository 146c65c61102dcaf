-- What names no codec of its own, as no projection can, is in ZSTD in parts written from here on.
ALTER TABLE {database}.events{local}{on_cluster}
MODIFY SETTING default_compression_codec = 'ZSTD(1)';

-- In place of `counts`, and by method too: an open is a GET. Whatever counts by campaign, kind and
-- hour reads this and no rows. It lives in the part: rows and counts come in one rename.
ALTER TABLE {database}.events{local}{on_cluster}
ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT campaign, kind, method, toStartOfHour(ts), count()
    GROUP BY campaign, kind, method, toStartOfHour(ts)
);

ALTER TABLE {database}.events{local}{on_cluster} DROP PROJECTION IF EXISTS counts;

-- For rows that are there already, in the background.
ALTER TABLE {database}.events{local}{on_cluster} MATERIALIZE PROJECTION hourly;

-- What each recipient of a campaign did. `sends` is 0 where no send is recorded. The same words as
-- before in one pass over the rows: a send stands if it was recorded after it was last taken back.
CREATE OR REPLACE VIEW {database}.readers{on_cluster} AS
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
    FROM {database}.events
    GROUP BY campaign, send, recipient
) AS s
GROUP BY campaign, recipient
HAVING sum(s.is_send) > 0 OR sum(s.seen) > 0;

-- Opens and clicks of each campaign by UTC hour, without who they were: of the projection alone.
CREATE OR REPLACE VIEW {database}.activity{on_cluster} AS
SELECT
    campaign,
    hour,
    sumIf(events, kind = 'open' AND method = 'GET') AS opens,
    sumIf(events, kind = 'click' AND method = 'GET') AS clicks
FROM
(
    SELECT campaign, kind, method, toStartOfHour(ts) AS hour, count() AS events
    FROM {database}.events
    GROUP BY campaign, kind, method, hour
)
WHERE kind IN ('open', 'click')
GROUP BY campaign, hour;
