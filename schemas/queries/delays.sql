-- How long after the send people first opened.
-- hour: whole hours since the send. first_opens: recipients who first opened in that hour.
-- opened_by_then: recipients who had opened by its end.
SELECT campaign, hour, first_opens, opened_by_then
FROM hours_since_send
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, hour
LIMIT {limit:UInt64}
