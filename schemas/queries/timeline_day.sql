-- Opens and clicks by day, in the time zone that is asked for.
-- A day is one of that zone's calendar.
-- opens, clicks: all of them. recipients: distinct people who opened in that day.
SELECT
    campaign,
    formatDateTime(ts, '%F', {tz:String}) AS day,
    countIf(kind = 'open') AS opens,
    uniqExactIf(recipient, kind = 'open') AS recipients,
    countIf(kind = 'click') AS clicks
FROM events
WHERE kind IN ('open', 'click') AND method = 'GET'
    AND ({campaign:String} = '' OR campaign = {campaign:String})
GROUP BY campaign, day
ORDER BY campaign, min(ts)
LIMIT {limit:UInt64}
