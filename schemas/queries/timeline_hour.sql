-- Opens and clicks by hour, in the time zone that is asked for.
-- An hour is one of that zone's clock, named with its offset from UTC, so that the hour that comes
-- twice when clocks go back is two.
-- opens, clicks: all of them. recipients: distinct people who opened in that hour.
SELECT
    campaign,
    replaceRegexpOne(
        formatDateTime(min(ts), '%FT%H:00:00%z', {tz:String}), '(..)$', ':\\1') AS hour,
    countIf(kind = 'open') AS opens,
    uniqExactIf(recipient, kind = 'open') AS recipients,
    countIf(kind = 'click') AS clicks
FROM events
WHERE kind IN ('open', 'click') AND method = 'GET'
    AND ({campaign:String} = '' OR campaign = {campaign:String})
GROUP BY
    campaign,
    timezoneOffset(toTimezone(ts, {tz:String})) AS ahead,
    intDiv(toUnixTimestamp(ts) + ahead, 3600)
ORDER BY campaign, min(ts)
LIMIT {limit:UInt64}
