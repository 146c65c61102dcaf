-- Who has a recorded send and no open of class human or proxy. Images may be blocked: not seen is not
-- unread. clicks: a click without an open shows that it was read. loaded: 1 if something that may have
-- been the recipient's program (a prefetch, say) loaded the image.
SELECT campaign, recipient, sends, clicks, loaded
FROM never_opened
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, recipient
LIMIT {limit:UInt64}
