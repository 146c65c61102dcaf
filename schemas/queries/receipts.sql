-- Read receipts: who sent one, and what it says became of the mail. Only displayed says that it was
-- shown; deleted and denied say that it was not, or that one would not tell. A receipt that names no
-- recorded send has no campaign.
SELECT
    campaign, recipient, disposition,
    replaceRegexpOne(formatDateTime(at, '%FT%T%z', {tz:String}), '(..)$', ':\\1') AS at,
    message_id
FROM receipts AS r
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY r.at DESC, message_id
LIMIT {limit:UInt64}
