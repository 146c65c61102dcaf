-- Hits and clicks by day, in the time zone that is asked for. A day is one of that zone's calendar.
-- Four lines of hits: open_hits (human or proxy: all of them, not only those 30 s apart), prefetched,
-- unknown (neither shows a reader), scanned (by machines). clicks: those of people. recipients: distinct people who opened in that day.
WITH toUInt64(1) AS n
SELECT
    campaign,
    formatDateTime(ts, '%F', {tz:String}) AS day,
    {shown},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM events
WHERE kind IN ('open', 'click')
    AND ({campaign:String} = '' OR campaign = {campaign:String})
GROUP BY campaign, day
ORDER BY campaign, min(ts)
LIMIT {limit:UInt64}
