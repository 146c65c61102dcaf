-- Parts of a campaign's recipients, as its sends name them; words as in `report campaigns`.
-- flag: no hit at all, while another segment has some: a gateway there strips or rejects mails with a
-- pixel (or nobody's images load). `mint --no-pixel` records a send without one, and is in no rate.
SELECT
    campaign, segment, sends, recipients, delivered, hits, unique_opens, unique_clicks,
    open_rate, open_rate_low, open_rate_high, confirmed_rate,
    if(hits = 0 AND clicks = 0 AND recipients > 0 AND max(hits) OVER (PARTITION BY campaign) > 0,
        'no hit: stripped or rejected?', '') AS flag
FROM segments
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY campaign, flag = '', sends DESC, segment
LIMIT {limit:UInt64}
