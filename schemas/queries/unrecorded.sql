-- Recipients without a recorded send (or whose send was taken back): they are in no rate.
SELECT campaign, recipients, hits, opens, clicks
FROM unrecorded
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY recipients DESC, campaign
LIMIT {limit:UInt64}
