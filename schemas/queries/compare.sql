-- Two and two campaigns (report compare A B ...): each rate with its 95 % interval (Wilson), their
-- difference with its own (Newcombe), and what it means. An interval that holds 0 says nothing.
-- It covers chance only: a campaign that went to other people differs for that reason too.
WITH
    {formulas},
    each AS
    (
        SELECT
            indexOf({campaigns:Array(String)}, campaign) AS place, campaign, told.1 AS what,
            told.2 AS value, told.3 AS low, told.4 AS high
        FROM campaigns
        ARRAY JOIN [
            ('open_rate', open_rate, open_rate_low, open_rate_high),
            ('adjusted_rate', adjusted_rate, adjusted_rate_low, adjusted_rate_high),
            ('confirmed_rate', confirmed_rate, wilson(unique_clicks, delivered, -1),
                wilson(unique_clicks, delivered, 1))
        ] AS told
        WHERE campaign IN {campaigns:Array(String)}
    )
SELECT
    a.campaign AS campaign,
    b.campaign AS other,
    a.what AS rate,
    a.value AS campaign_rate, a.low AS campaign_rate_low, a.high AS campaign_rate_high,
    b.value AS other_rate, b.low AS other_rate_low, b.high AS other_rate_high,
    a.value - b.value AS difference_rate,
    newcombe(a.value, a.low, a.high, b.value, b.low, b.high).1 AS difference_rate_low,
    newcombe(a.value, a.low, a.high, b.value, b.low, b.high).2 AS difference_rate_high,
    multiIf(
        isNull(difference_rate), 'too few to say', difference_rate_low > 0, 'higher',
        difference_rate_high < 0, 'lower', 'no clear difference') AS says
FROM each AS a
INNER JOIN each AS b ON a.what = b.what
WHERE a.place < b.place
ORDER BY a.place, b.place, rate = 'open_rate' DESC, rate
LIMIT {limit:UInt64}
