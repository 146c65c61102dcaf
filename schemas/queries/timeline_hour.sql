-- Hits and clicks by hour, in the time zone that is asked for.
-- An hour is one of that zone's clock, named with its offset from UTC, so that the hour that comes
-- twice when clocks go back is two.
-- Four lines of hits: open_hits (human or proxy: all of them, not only those 30 s apart), prefetched,
-- unknown (neither shows a reader), scanned (by machines). clicks: those of people. recipients: distinct people who opened in that hour.
WITH toUInt64(1) AS n
SELECT
    campaign,
    replaceRegexpOne(
        formatDateTime(min(ts), '%FT%H:00:00%z', {tz:String}), '(..)$', ':\\1') AS hour,
    {shown},
    uniqExactIf(recipient, bitTest(did, 0)) AS recipients
FROM events
WHERE kind IN ('open', 'click')
    AND ({campaign:String} = '' OR campaign = {campaign:String})
GROUP BY
    campaign,
    timezoneOffset(toTimezone(ts, {tz:String})) AS ahead,
    intDiv(toUnixTimestamp(ts) + ahead, 3600)
ORDER BY campaign, min(ts)
LIMIT {limit:UInt64}
