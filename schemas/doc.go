// Package schemas holds the words of Krib: bookings, events, subscriptions,
// deliveries, attempts, notifications, money, ids, topics, tiers and error
// kinds, with the JSON Schemas of every topic's value.
//
// It is the ground floor. It imports the standard library and the JSON codec
// only, does no I/O and holds no state, so that every other package may speak
// its words. Whatever is written to a topic is one of its types, encoded by
// [Encode] and read back by [Decode]; records once written decode for ever.
package schemas
