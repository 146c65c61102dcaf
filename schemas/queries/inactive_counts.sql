-- How many recipients there are of each kind; see `heliograph inactive --help`.
SELECT
    told.1 AS recipients, told.2 AS what
FROM
(
    SELECT arrayJoin([
        (count(), 'have sends enough inside the window'),
        (countIf(active), 'of these read: an open, a click or a receipt'),
        (countIf(NOT active AND NOT undecidable), 'loaded nothing: images may be blocked'),
        (countIf(NOT active AND undecidable),
            'had only hits that show no reader, or from before the window: undecidable')
    ]) AS told
    FROM ({inactive})
)
