-- What is said of campaigns, each from its figures, in their order.
WITH {formulas}
SELECT {rates} FROM (SELECT arrayJoin({figures:Array(Array(UInt64))}) AS figures)
