-- The recorded sends of one send, page by page, in the order of recipients.
SELECT recipient, toUnixTimestamp(sent_at) AS sent_at
FROM sends
WHERE campaign = {campaign:String} AND send = {send:String} AND recipient > {after:String}
ORDER BY recipient
LIMIT {limit:UInt64}
