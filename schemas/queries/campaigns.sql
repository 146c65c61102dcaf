-- Rates of each campaign, the one with the most opens first.
-- sends: distinct (send, recipient). recipients: distinct recipients with a recorded send, by whom
-- rates divide. hits: all requests of its pixels. unique_opens, unique_clicks: recipients.
-- open_rate (apparent): recipients who opened or clicked. click_rate: recipients who clicked.
SELECT * FROM campaigns WHERE campaign IN {campaigns:Array(String)}
