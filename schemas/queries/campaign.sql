-- As campaigns.sql, of one campaign: without the ranking, which would cost more than its rows do.
SELECT
    campaign, sends, recipients, hits, unique_opens, open_rate, clicks, unique_clicks, click_rate
FROM campaigns
WHERE campaign = {campaign:String}
LIMIT {limit:UInt64}
