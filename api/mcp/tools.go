package mcp

import sdk "github.com/modelcontextprotocol/go-sdk/mcp"

// A tool is one operation of the document, and what a model has to know of it.
type tool struct {
	name, title string
	operation   string // its operationId
	about       string
	hints       sdk.ToolAnnotations
	// defaults stand in the place of the operation's own, where a model has less
	// room than a program.
	defaults map[string]any
}

// Hints of what a call does. None of them reaches further than Krib, except for
// subscriptions: those have it call an address.
var (
	reads   = sdk.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, DestructiveHint: new(false), OpenWorldHint: new(false)}
	adds    = sdk.ToolAnnotations{DestructiveHint: new(false), OpenWorldHint: new(false)}
	settles = sdk.ToolAnnotations{DestructiveHint: new(true), IdempotentHint: true, OpenWorldHint: new(false)}
)

// outward is a hint for what has Krib call somebody else's address.
func outward(h sdk.ToolAnnotations) sdk.ToolAnnotations {
	h.OpenWorldHint = new(true)
	return h
}

// tools are all there are, in the order in which they are used.
var tools = []tool{
	{
		name: "search_properties", title: "Search homes", operation: "searchProperties", hints: reads,
		about: "Finds homes that can be booked, by place, price, size and dates; with check_in and check_out only those that are free then. " +
			"Sorted by price; go on with offset while has_more is true.",
		defaults: map[string]any{"limit": 10},
	},
	{
		name: "get_property", title: "Show a home", operation: "getProperty", hints: reads,
		about: "One home with its prices, fees, bounds of nights and guests, and time zone.",
	},
	{
		name: "check_availability", title: "Check whether a stay is free", operation: "checkAvailability", hints: reads,
		about: "Says whether a stay can be booked. If not, reasons says why, and alternative_dates are the nearest stays of the same length that can.",
	},
	{
		name: "quote_price", title: "Quote a price", operation: "calculatePricing", hints: reads,
		about: "What a stay costs, line by line. Its total_price is the total_amount that create_booking asks for.",
	},
	{
		name: "create_booking", title: "Book a stay", operation: "createBooking", hints: adds,
		about: "Books a stay for a guest; ask the guest first, and quote_price for the total. The booking is pending until its host answers, or confirmed at once where " +
			"the host wants that. Give an idempotency_key and repeat it when no answer came: then there is one booking. dates_taken means that somebody was faster.",
	},
	{
		name: "get_booking", title: "Show a booking", operation: "getBookingStatus", hints: reads,
		about: "How a booking stands: status, version, payment, dates, and until when its host may answer.",
	},
	{
		name: "list_pending_bookings", title: "List what waits for a host", operation: "listPendingBookings", hints: reads,
		about: "Your bookings with one host that wait for its answer, in pages.",
	},
	{
		name: "change_booking_status", title: "Confirm, cancel or complete a booking", operation: "changeStatus", hints: settles,
		about: "Moves a booking: pending to confirmed or cancelled, confirmed to cancelled, completed or no_show. Confirming is the host's: it needs a key with bookings:confirm. A stay is completed from its check_out day on and a guest " +
			"a no_show from the check_in day on, at the property. Cancelling cannot be undone; ask the guest first. " +
			"With version the change is refused if the booking has changed since. The same status again changes nothing.",
	},
	{
		name: "list_events", title: "Read what has happened", operation: "pullEvents", hints: reads,
		about: "Events of your bookings after a cursor, in each booking's order. Begin with since, then give the next_cursor of the answer before as after, " +
			"and every event comes once. wait asks to hold the answer for so many seconds until something happens.",
		defaults: map[string]any{"limit": 20},
	},
	{
		name: "list_webhook_subscriptions", title: "List webhook subscriptions", operation: "listSubscriptions", hints: reads,
		about:    "The URLs that Krib sends your events to, and how each stands: failing, disabled and why, when it last worked.",
		defaults: map[string]any{"limit": 20},
	},
	{
		name: "create_webhook_subscription", title: "Subscribe a URL to events", operation: "createSubscription", hints: outward(adds),
		about: "Has Krib POST signed events to a public https URL. The answer holds signing_secret, which verifies them, this once: store it and do not show it. " +
			"The same URL with the same settings again answers the subscription that there is.",
	},
	{
		name: "update_webhook_subscription", title: "Change a webhook subscription", operation: "patchSubscription", hints: outward(settles),
		about: "Changes what is named and leaves the rest: URL, events, filter, ordering, rate limit, or whether it is_active.",
	},
	{
		name: "delete_webhook_subscription", title: "Delete a webhook subscription", operation: "deleteSubscription", hints: settles,
		about: "Ends a subscription for good; what waits for it is not sent. To pause it, update it with is_active false.",
	},
}

// Names are those of the tools.
func Names() []string {
	names := make([]string, len(tools))
	for i := range tools {
		names[i] = tools[i].name
	}
	return names
}

// describe is the tool as it is listed.
func (t *tool) describe(op *operation) *sdk.Tool {
	hints := t.hints
	return &sdk.Tool{
		Name: t.name, Title: t.title, Description: t.about, Annotations: &hints, InputSchema: op.input, OutputSchema: op.output,
	}
}
