-- The words and formulas, each defined once: what stands as {name} in migrations and queries. A piece
-- that a migration uses is never changed (its checksum covers it): a new one takes its place.

-- {did}: what an event says of its recipient, a bit each; of several events the bits add up by OR.
--   1 opened: an open of class human or proxy       16 the mail bounced
--   2 clicked: a click of class human               32 it was minted with a pixel
--   4 prefetched: an open of class prefetch         64 seen: a hit or click, not the sender's own
--   8 loaded: clicked, or an open of class human, proxy, prefetch or unknown
-- 128 read: opened or clicked
multiIf(
    kind = 'open',
    multiIf(
        class IN ('human', 'proxy'), 201, class = 'prefetch', 76, class = 'scanner', 64,
        class = 'self', 0, 72),
    kind = 'click', multiIf(class = 'human', 202, class = 'self', 0, 64),
    kind = 'sent', if(detail = 'no pixel', 0, 32),
    kind = 'bounced', 16,
    0)

-- {mail}: what all events of a (campaign, send, recipient) come to. A send stands if it was recorded
-- after it was last taken back. bits: those of all events, with 256 if a send with a pixel stands, and
-- 512 if it did not bounce; none of whoever has no name, for who is anonymous is in no rate.
-- opens: of hits of class human or proxy less than 30 s apart only the first counts.
maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '', 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256,
    said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks

-- {mails}: as {mail}, and none of whoever has opted out, of whom no hit is recorded.
maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR recipient GLOBAL IN (SELECT recipient FROM {database}.optouts), 0,
    NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4), said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks

-- {heard}: as {mail}, and none of whoever is `opted_out`, of whom no hit is recorded.
maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled') AS is_send,
groupBitOr(did) AS said,
multiIf(
    recipient = '' OR opted_out, 0, NOT (is_send AND bitTest(said, 5)), said, bitTest(said, 4),
    said + 256, said + 768) AS bits,
countIf(kind = 'open' AND class != 'self') AS hits,
arraySort(groupArrayIf(toUnixTimestamp64Milli(ts), bitTest(did, 0))) AS times,
notEmpty(times) + arrayCount(gap -> gap >= 30000, arrayDifference(times)) AS opens,
countIf(bitTest(did, 1)) AS clicks

-- {stays_out}: of a recipient's opt-outs and opt-ins the last holds, of two at a time the opt-out.
maxIf(ts, kind = 'optout') >= maxIf(ts, kind = 'optin')

-- {asked_not}: the events by which recipients opt out, and in again.
campaign = '' AND kind IN ('optout', 'optin')

-- {reader}: what all mails `m` of a (campaign, recipient) come to. set: the bits of one in D, to whom
-- the mail arrived, or who read it all the same; else 0.
sum(m.is_send) AS sends,
groupBitOr(m.bits) AS bits,
if(bitTest(bits, 8) AND bitAnd(bits, 640) > 0, bits, 0) AS set,
sum(m.hits) AS hits,
sum(m.opens) AS opens,
sum(m.clicks) AS clicks

-- {figures}: what a reader `r` adds to each figure of its campaign, which are sums of these; one
-- array, for columns take long to plan. R, C, E, A, P are all of D, so that no rate exceeds 1.
[
    r.sends,                                         -- 1
    bitTest(r.bits, 8),                              -- 2: recipients
    r.set > 0,                                       -- 3: D, delivered
    r.hits,                                          -- 4
    r.opens,                                         -- 5
    bitTest(r.set, 0),                               -- 6: R, who opened
    bitTest(r.set, 7),                               -- 7: E, who opened or clicked
    r.clicks,                                        -- 8
    bitTest(r.set, 1),                               -- 9: C, who clicked
    bitTest(r.set, 3),                               -- 10: A
    bitTest(r.set, 2),                               -- 11: P
    bitTestAll(r.set, 2, 7),                         -- 12: P and E
    r.sends = 0 AND bitTest(r.bits, 6),              -- 13: who has no recorded send,
    if(r.sends = 0 AND bitTest(r.bits, 6), r.hits, 0) -- 14: and their hits
]::Array(UInt64)

-- {formulas}: a rate of x in n, and a bound (side is -1 or 1) of its 95 % interval by Wilson:
-- (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = x/n, times 2n, for z = 1.96.
(x, n) -> if(n = 0, NULL, x / n) AS rate,
(x, n, side) -> if(
    n = 0, NULL,
    round((2 * x + 3.8416 + side * 1.96 * sqrt(3.8416 + 4 * x * (1 - x / n))) / (2 * n + 7.6832), 12))
    AS wilson,
-- the 95 % interval of the difference of two rates with their bounds, by Newcombe.
(p, low, high, q, below, above) -> (
    p - q - sqrt(pow(p - low, 2) + pow(above - q, 2)),
    p - q + sqrt(pow(high - p, 2) + pow(q - below, 2))) AS newcombe

-- {rates}: all that is said of a campaign, from its figures. The adjusted rate is of those whom
-- nobody prefetched (adjusted_base), of 100 at least.
figures[1] AS sends,
figures[2] AS recipients,
figures[3] AS delivered,
figures[4] AS hits,
figures[5] AS opens,
figures[6] AS unique_opens,
figures[7] AS readers,
figures[8] AS clicks,
figures[9] AS unique_clicks,
figures[11] - figures[12] AS prefetched_only,
rate(readers, delivered) AS open_rate,
wilson(readers, delivered, -1) AS open_rate_low,
wilson(readers, delivered, 1) AS open_rate_high,
rate(figures[10], delivered) AS apparent_rate,
if(delivered - figures[11] < 100, NULL, delivered - figures[11]) AS adjusted_base,
rate(readers - figures[12], adjusted_base) AS adjusted_rate,
wilson(readers - figures[12], adjusted_base, -1) AS adjusted_rate_low,
wilson(readers - figures[12], adjusted_base, 1) AS adjusted_rate_high,
rate(unique_clicks, readers) AS click_to_open_rate,
rate(unique_clicks, delivered) AS confirmed_rate,
figures[13] AS unrecorded,
figures[14] AS unrecorded_hits

-- {lines}:
sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS opens,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks

-- {shown}: over time, of rows that stand for n events each. open_hits: of class human or proxy, each of
-- them (`opens` are those at least 30 s apart); then those that show no reader for certain. clicks: those
-- of people. ({lines} is what migration 10 had.)
sumIf(n, kind = 'open' AND class IN ('human', 'proxy')) AS open_hits,
sumIf(n, kind = 'open' AND class = 'prefetch') AS prefetched,
sumIf(n, kind = 'open' AND class IN ('unknown', '')) AS unknown,
sumIf(n, kind = 'open' AND class = 'scanner') AS scanned,
sumIf(n, kind = 'click' AND class = 'human') AS clicks

-- {network}: what is kept of an address: its network, /24 or /48, as that one's first address; '' of
-- what is none.
multiIf(
    address = '', '',
    position(address, ':') > 0, cutIPv6(IPv6StringToNumOrDefault(address), 10, 1),
    IPv4StringToNumOrDefault(address) = 0, '',
    IPv4NumToString(bitAnd(IPv4StringToNumOrDefault(address), 4294967040)))

-- {inactive}: of each recipient with enough settled sends inside the window, whether there is evidence
-- of reading inside it (who denies a receipt was asked for it at
-- the mail), or a hit at any time; in hygiene mode by the dates of last opens. The sends of mails that bounced or had no pixel count for nothing, nor does anybody
-- without a name or who has opted out.
SELECT
    recipient,
    countIf(m.counts) AS sends,
    maxIf(m.at, m.counts) AS last_send,
    max(m.evidence) OR recipient GLOBAL IN (
        SELECT recipient FROM receipts
        WHERE disposition IN ('displayed', 'denied') AND at >= toDateTime({since:UInt32}, 'UTC'))
        OR recipient GLOBAL IN (
            SELECT recipient FROM last_opens WHERE day >= toDate(toDateTime({since:UInt32}, 'UTC'), 'UTC'))
        AS active,
    max(m.seen) OR recipient GLOBAL IN (SELECT recipient FROM last_opens) AS undecidable
FROM
(
    SELECT
        recipient,
        argMaxIf(e.sent_at, ts, kind = 'sent') AS at,
        maxIf(ts, kind = 'sent') > maxIf(ts, kind = 'cancelled')
            AND bitAnd(groupBitOr(did), 48) = 32
            AND toUnixTimestamp(at) BETWEEN {since:UInt32} AND {settled:UInt32} AS counts,
        max(ts >= toDateTime({since:UInt32}, 'UTC') AND (bitTest(did, 7)
            OR kind = 'click' AND class NOT IN ('scanner', 'self'))) AS evidence,
        max(bitTest(did, 6)) AS seen
    FROM events AS e
    WHERE recipient != '' AND recipient GLOBAL NOT IN (SELECT recipient FROM optouts)
    GROUP BY campaign, send, recipient
) AS m
GROUP BY recipient
HAVING sends >= {min_sends:UInt32}
