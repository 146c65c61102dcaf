-- Who opened, of those with a recorded send. Times are in the time zone that is asked for.
SELECT
    campaign, recipient, opens, clicks,
    replaceRegexpOne(formatDateTime(first_open, '%FT%T%z', {tz:String}), '(..)$', ':\\1') AS first_open,
    replaceRegexpOne(formatDateTime(last_open, '%FT%T%z', {tz:String}), '(..)$', ':\\1') AS last_open
FROM opened
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, recipient
LIMIT {limit:UInt64}
