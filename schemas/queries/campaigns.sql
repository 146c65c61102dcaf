-- Rates of each campaign, the one with the most opens first (of one: campaign.sql).
-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send, by whom
-- rates divide. hits: all requests of its pixels. unique_opens, unique_clicks: recipients.
-- open_rate (apparent): recipients who opened or clicked. click_rate: recipients who clicked.
WITH ranks AS
(
    SELECT
        campaign,
        sumIf(events, kind = 'open' AND method = 'GET') AS opens,
        sumIf(events, kind = 'sent') AS sent
    FROM
    (
        SELECT campaign, kind, method, count() AS events FROM events
        GROUP BY campaign, kind, method
    )
    GROUP BY campaign
    ORDER BY opens DESC, sent DESC, campaign
    LIMIT {limit:UInt64}
)
SELECT
    c.campaign AS campaign, c.sends AS sends, recipients, hits, unique_opens, open_rate, clicks,
    unique_clicks, click_rate
FROM campaigns AS c
INNER JOIN ranks AS r ON r.campaign = c.campaign
WHERE c.campaign IN (SELECT campaign FROM ranks)
ORDER BY r.opens DESC, r.sent DESC, c.campaign
LIMIT {limit:UInt64}
