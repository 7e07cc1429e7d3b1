package store

// What tests of plans need: the queries as they are sent.

func (f *DeliveryFilter) SQL() (string, []any) {
	span, rest := f.conditions()
	return spanPage("webhook_deliveries", deliveryColumns, deliveryOrder, span, rest, f.Limit)
}

func (f *AttemptFilter) SQL() (string, []any) {
	span, rest := f.conditions()
	return spanPage("webhook_attempts", attemptColumnNames, attemptOrder, span, rest, f.Limit)
}

var StatisticsQuery = statisticsQuery

const (
	CountWaiting = countWaiting
	CountFailing = countFailing + ` and subscription_id = $4`
	MaxScan      = maxScan

	LongestOnItsWay = longestOnItsWay
	ClocksApart     = clocksApart
)
