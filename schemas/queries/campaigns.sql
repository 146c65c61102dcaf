-- Rates of each campaign, the largest first.
-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send, by whom
-- rates divide. hits: all requests of its pixels. unique_opens, unique_clicks: recipients.
-- open_rate (apparent): recipients who opened or clicked. click_rate: recipients who clicked.
SELECT
    campaign, sends, recipients, hits, unique_opens, open_rate, clicks, unique_clicks, click_rate
FROM campaigns
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY sends DESC, campaign
LIMIT {limit:UInt64}
