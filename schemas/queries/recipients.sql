-- Who opened, of those with a recorded send. Times are in the time zone that is asked for.
SELECT
    campaign, recipient, opens, clicks,
    formatDateTime(first_open, '%FT%T%z', {tz:String}) AS first_open,
    formatDateTime(last_open, '%FT%T%z', {tz:String}) AS last_open
FROM opened
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, recipient
LIMIT {limit:UInt64}
