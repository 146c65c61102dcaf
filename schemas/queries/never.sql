-- Who has a recorded send and no open. Images may be blocked: not seen is not unread.
-- clicks: a click without an open shows that it was read.
SELECT campaign, recipient, sends, clicks
FROM never_opened
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, recipient
LIMIT {limit:UInt64}
