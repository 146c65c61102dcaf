-- Clicks by link. clicks: all of them. recipients: distinct people who clicked it.
SELECT campaign, link, clicks, recipients
FROM top_links
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY clicks DESC, campaign, link
LIMIT {limit:UInt64}
